"""Metrics, the capacity report and the end of exported files, with the services running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Service
from prometheus_client.parser import text_string_to_metric_families

from tasks.engine.settings import load_settings
from tasks.resources import exports_bucket

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def image(service: Service, folder: Path) -> dict[str, Any]:
    path = folder / "watched.raw"
    path.write_bytes(os.urandom(4 << 20))
    return service.ims("image", "import", str(path), "--format", "raw", "--name", "watched", "--verify", "none")


def series(text: str) -> dict[str, float]:
    """Sums by name over all labels."""
    told: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told[sample.name] = told.get(sample.name, 0) + sample.value
    return told


def scraped(service: Service) -> dict[str, float]:
    return series(service.ims("metrics")["metrics"])


def eventually(read: Callable[[], bool], *, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not (told := read()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return told


def test_import_and_export_are_counted(service: Service, image: dict[str, Any], folder: Path) -> None:
    before = scraped(service)
    assert before["ims_image_data_bytes_total"] >= 4 << 20
    service.ims("image", "export", image["id"], "--format", "raw", "--to", str(folder / "watched-export.raw"))
    assert scraped(service)["ims_operation_duration_seconds_count"] == before["ims_operation_duration_seconds_count"] + 1
    fetched = before.get("ims_cache_fetched_chunks_total", 0)
    assert eventually(lambda: scraped(service)["ims_cache_fetched_chunks_total"] >= fetched + 4)


def test_failed_run_is_counted_as_one(service: Service, folder: Path) -> None:
    before = scraped(service)["ims_operations_failed"]
    path = folder / "watched-wrong.raw"
    path.write_bytes(os.urandom(1 << 20))
    wrong = ["--format", "raw", "--name", "wrong", "--checksum", "sha256:" + "0" * 64]
    assert service.refused("image", "import", str(path), *wrong) != ""
    assert scraped(service)["ims_operations_failed"] == before + 1


def prefect(service: Service, path: str, **body: Any) -> list[dict[str, Any]]:
    """What Prefect's API finds."""
    login = (service.home / "prefect.login").read_text().strip().split(":", 1)
    with httpx.Client(base_url=load_settings().prefect_api_url, auth=(login[0], login[1]), timeout=30) as client:
        found: list[dict[str, Any]] = client.post(path, json=body).json()
        return found


def said(service: Service, run: str) -> list[str]:
    """What the log of a run in the Prefect UI says."""
    return [each["message"] for each in prefect(service, "/logs/filter", logs={"flow_run_id": {"any_": [run]}})]


def lines(service: Service, **ids: str) -> list[dict[str, Any]]:
    """What IMS_HOME/logs/ims.jsonl says with these ids."""
    told = [json.loads(line) for line in (service.home / "logs" / "ims.jsonl").read_text().splitlines()]
    return [line for line in told if all(line.get(name) == value for name, value in ids.items())]


def test_run_leaves_lines_with_its_ids(service: Service, image: dict[str, Any]) -> None:
    (done,) = lines(service, image=image["id"], kind="import", event="operation.done")
    events = [line["event"] for line in lines(service, operation=done["operation"]) if "event" in line]
    assert events == ["operation.begun", "operation.done"]
    assert (done["account"], done["seconds"] > 0, len(done["flow_run"])) == ("admin", True, 36)
    login = (service.home / "prefect.login").read_text().strip().partition(":")[2]
    secrets = [login, load_settings().s3_secret_key.get_secret_value(), (service.home / "admin.key").read_text().strip()]
    assert not [secret for secret in secrets if secret in (service.home / "logs" / "ims.jsonl").read_text()]


def test_failed_run_says_so_with_its_code(service: Service, folder: Path) -> None:
    path = folder / "watched-other.raw"
    path.write_bytes(os.urandom(1 << 20))
    wrong = ["--format", "raw", "--name", "said", "--checksum", "sha256:" + "0" * 64]
    outcome = service.run("image", "import", str(path), *wrong)
    failed = lines(service, event="operation.failed")[-1]
    assert (failed["code"], failed["level"]) == (outcome.code, "error")
    assert "import failed" not in outcome.words


def test_run_of_a_worker_leaves_the_same_lines_and_plain_words_in_the_ui(service: Service, image: dict[str, Any]) -> None:
    run = service.ims("image", "export", image["id"], "--format", "raw", "--detach")["flow_run_id"]
    assert eventually(lambda: bool(lines(service, flow_run=run, event="operation.done")), seconds=90)
    assert {line["image"] for line in lines(service, flow_run=run)} == {image["id"]}

    assert eventually(lambda: any(message.startswith("export done in") for message in said(service, run)))
    assert not [message for message in said(service, run) if message.startswith("{")]


def test_run_of_a_command_has_its_words_in_the_ui_as_well(service: Service, folder: Path) -> None:
    path = folder / "watched-command.raw"
    path.write_bytes(os.urandom(1 << 20))
    outcome = service.run_process("image", "import", str(path), "--format", "raw", "--name", "by-command", "--verify", "none")
    assert (outcome.status, "import done" in outcome.words) == (0, False)
    (done,) = lines(service, image=outcome.answer["id"], event="operation.done")
    assert eventually(lambda: any(message.startswith("import done in") for message in said(service, done["flow_run"])))


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """`ims metrics --serve` on a free port, ended by SIGTERM; its address."""
    command = [sys.executable, "-m", "flows.cli", "metrics", "--serve", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=service.environment())
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield line.split()[2].rstrip(";")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()


def test_served_metrics_are_the_operators(service: Service, image: dict[str, Any]) -> None:
    with serving(service) as url:
        token = (service.home / "metrics.token").read_text().strip()
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url).status_code == 401
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert series(answer.text)["ims_images"] >= 1


def test_exported_file_is_handed_out_until_it_expires(service: Service, image: dict[str, Any]) -> None:
    from flows.expire_exports import expire_exports

    exports_bucket().put("somebody/else.raw", b"foreign")
    url = service.ims("image", "export", image["id"], "--format", "qcow2")["url"]
    kept = expire_exports(days=1)
    assert (kept.removed, kept.kept >= 1, httpx.get(url).status_code) == ([], True, 200)
    removed = expire_exports(days=0)
    assert (len(removed.removed) >= 1, removed.kept, removed.strangers >= 1) == (True, 0, True)
    assert httpx.get(url).status_code == 404
    assert expire_exports(days=0).removed == []
    assert exports_bucket().stat("somebody/else.raw") == 7
    exports_bucket().delete("somebody/else.raw")


def test_report_is_published_with_what_the_bucket_holds(service: Service, image: dict[str, Any]) -> None:
    from flows.report_capacity import report_capacity

    view = report_capacity(days=1)
    assert view.store is not None
    assert view.store.exact
    assert view.store.bytes >= image["bytes_new"]
    found = prefect(service, "/artifacts/filter", artifacts={"key": {"any_": ["capacity"]}})
    assert f"in {view.store.chunks:,} chunks" in found[-1]["data"]
    assert "/runs/flow-run/" in found[-1]["data"]
