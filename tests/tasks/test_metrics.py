"""What Prometheus reads of a catalog and of a host's NBD server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Literal

import pytest
from catalog_home import Home
from prometheus_client.parser import text_string_to_metric_families

from models.images import delete_image
from models.operations import Owner, Request, begin_operation, bind_subject, fail, finish
from models.trail import Actor
from tasks.engine.errors import StateRefused
from tasks.metrics import exposition
from tasks.resources import catalog

COUNTERS = {"hits": 30, "fetched_chunks": 10, "fetched_bytes": 10 << 20, "filled_chunks": 4, "failures": 1}
HELD = {"cache_bytes": 5, "cache_capacity": 9, "read": {"a" * 64: 7, "b" * 64: 8}, "started": 1000.5}
Series = dict[str, float]


def series(part: Literal["all", "catalog", "host"] = "all") -> Series:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(exposition(part).decode())
    return {
        sample.name + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def run_operation(key: str, *, kind: str = "import", image_id: str | None = None) -> None:
    with catalog(write=True) as session:
        request = Request(kind=kind, account="alice", key=key)
        begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
        assert begun.lease is not None
        if image_id:
            bind_subject(session, lease=begun.lease, subject_id=image_id)
        if key.startswith("done"):
            finish(session, lease=begun.lease, result={})
        if key.startswith("failed"):
            fail(session, lease=begun.lease, code="defect", message="broken")


def test_figures_of_the_catalog(home: Home) -> None:
    with home.rows.write() as session:
        image = home.rows.active(session)
        home.rows.building(session, image)
    run_operation("done", image_id=image.id)
    run_operation("failed")
    run_operation("running", kind="launch")
    told = series()
    assert told["ims_operation_duration_seconds_count kind=import outcome=done"] == 1
    assert told["ims_operation_duration_seconds_bucket kind=import le=+Inf outcome=failed"] == 1
    assert told["ims_operations_running kind=launch"] == 1
    assert time.time() - 60 < told["ims_operations_oldest_timestamp_seconds kind=launch"] <= time.time()
    assert told["ims_operations_failed"] == 1
    assert told["ims_images state=active type=private"] == 1
    assert told["ims_ecs host=here state=building"] == 1
    assert [told[f"ims_image_{name}_bytes_total kind=import"] for name in ("data", "stored", "new", "saved")] == [8, 4, 2, 6]
    assert [told[f"ims_images_{name}_bytes"] for name in ("virtual", "data", "stored")] == [2 << 30, 8, 4]


def test_no_counter_falls_when_an_image_is_deleted_and_a_failed_run_is_tried_again(home: Home) -> None:
    with home.rows.write() as session:
        image = home.rows.active(session)
    run_operation("done", image_id=image.id)
    run_operation("failed")
    before = series()
    with catalog(write=True) as session:
        delete_image(session, image_id=image.id, by=Actor("alice"))
    run_operation("failed")
    after = series()
    counters = [name for name in before if any(part in name.split()[0] for part in ("_total", "_count", "_bucket", "_sum"))]
    assert len(counters) > 10
    assert not [name for name in counters if after[name] < before[name]]
    assert after["ims_images_data_bytes"] == 0


def test_histogram_is_cumulative(home: Home) -> None:
    run_operation("done")
    buckets = [value for name, value in series().items() if name.startswith("ims_operation_duration_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 1


def test_figures_of_the_host_are_those_its_server_wrote(home: Home) -> None:
    (home.path / "run" / "nbd-stats.json").write_text(json.dumps(COUNTERS | HELD))
    told = series()
    assert told["ims_cache_hits_total host=here"] == 30
    assert told["ims_cache_fetched_chunks_total cause=guest host=here"] == 6
    assert told["ims_cache_fetched_chunks_total cause=fill host=here"] == 4
    assert told["ims_exports_read_bytes_total host=here"] == 15
    assert told["ims_exports_start_timestamp_seconds host=here"] == 1000.5


def test_parts_are_all_there_is_and_overlap_in_nothing_but_their_own_time(home: Home) -> None:
    (home.path / "run" / "nbd-stats.json").write_text(json.dumps(COUNTERS | HELD))
    whole, of_catalog, of_host = (series(part) for part in ("all", "catalog", "host"))
    assert set(of_catalog) | set(of_host) == set(whole)
    assert set(of_catalog) & set(of_host) == {"ims_metrics_collect_seconds"}


@pytest.mark.parametrize("text", [None, "", "{}", json.dumps(COUNTERS)])
def test_host_without_counters_leaves_them_out(home: Home, text: str | None) -> None:
    if text is not None:
        (home.path / "run" / "nbd-stats.json").write_text(text)
    assert not [name for name in series() if "cache" in name]


def test_names_and_help_are_as_prometheus_wants_them(home: Home) -> None:
    run_operation("done")
    (home.path / "run" / "nbd-stats.json").write_text(json.dumps(COUNTERS | HELD))
    for family in text_string_to_metric_families(exposition().decode()):
        assert family.name.startswith("ims_")
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")


def test_who_is_no_operator_learns_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMS_ACCOUNT", "alice")
    monkeypatch.setenv("IMS_API_KEY", home.keys["alice"])
    with pytest.raises(StateRefused) as refused:
        exposition()
    assert refused.value.code == "account.operator"


def test_command_does_not_import_prefect(home: Home) -> None:
    script = "import sys; from flows.cli import main; status = main(['metrics']); sys.exit(status or 'prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "# TYPE ims_images_data_bytes gauge\nims_images_data_bytes 0.0\n" in done.stdout
    assert done.stdout.endswith("\n")
    assert not done.stdout.endswith("\n\n")
