"""Metrics, the capacity report and the end of exported files, with the services running."""

from __future__ import annotations

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
    from prefect.artifacts import Artifact

    from flows.report_capacity import report_capacity

    view = report_capacity(days=1)
    assert view.store is not None
    assert view.store.exact
    assert view.store.bytes >= image["bytes_new"]
    artifact = Artifact.get("capacity")
    assert artifact is not None
    assert f"in {view.store.chunks:,} chunks" in str(artifact.data)
    assert "/runs/flow-run/" in str(artifact.data)
