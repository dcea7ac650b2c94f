"""What the capacity report says, and that `ims report` says it without Prefect."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from catalog_home import Home
from sqlmodel import col, select

from models.operations import Owner, Request, begin_operation, bind_subject, finish
from models.tables import Operation, utc_now
from tasks.capacity_report import CapacityView, StoreLine, _duration, capacity_markdown, capacity_view
from tasks.resources import catalog


def operation(
    key: str, *, seconds: float = 0, kind: str = "import", image_id: str | None = None, run: str | None = None
) -> str:
    with catalog(write=True) as session:
        request = Request(kind=kind, account="alice", key=key, flow_run_id=run)
        begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
        assert begun.lease is not None
        if image_id:
            bind_subject(session, lease=begun.lease, subject_id=image_id)
        if key.startswith("done"):
            finish(session, lease=begun.lease, result={})
        row = session.exec(select(Operation).where(col(Operation.id) == begun.operation.id)).one()
        row.begun_at = (row.finished_at or utc_now()) - timedelta(seconds=seconds)
        return row.id


def view(days: int = 30) -> CapacityView:
    with catalog() as session:
        return capacity_view(session, days=days)


def markdown(told: CapacityView) -> str:
    return capacity_markdown(told, run_url=lambda run: f"http://ui/{run}")


@pytest.fixture
def filled(home: Home) -> Home:
    with home.rows.write() as session:
        image = home.rows.active(session)
        home.rows.queued(session, "queued", owner="admin")
    operation("done-1", seconds=200, image_id=image.id, run="run-1")
    for number in range(2, 14):
        operation(f"done-{number}", seconds=number)
    operation("running", seconds=90_000, kind="launch")
    return home


def test_empty_catalog_has_a_report(home: Home) -> None:
    told = view()
    assert (told.images, told.holders, told.paces, told.dedup_factor) == ([], [], [], None)
    assert "nothing was stored yet" in markdown(told)


def test_report_counts_what_there_is(filled: Home) -> None:
    told = view()
    assert [(line.type, line.state, line.images) for line in told.images] == [
        ("private", "active", 1),
        ("private", "queued", 1),
    ]
    assert (told.bytes.data, told.bytes.stored, told.bytes.in_new, told.dedup_factor) == (8, 4, 2, 2.0)
    assert [line.account for line in told.holders] == ["alice", "admin"]
    assert [(line.kind, line.runs, line.slowest) for line in told.paces] == [("import", 13, 200)]


def test_slowest_runs_lead_to_their_runs_and_oldest_to_their_operations(filled: Home) -> None:
    told = view()
    assert [round(line.seconds) for line in told.slowest] == [200, 13, 12, 11, 10, 9, 8, 7, 6, 5]
    text = markdown(told)
    assert "3 min 20 s | [run-1](http://ui/run-1) |" in text
    assert f"1 d 1 h | operation `{told.unfinished[0].id}` |" in text


def test_runs_of_other_days_are_left_out(filled: Home) -> None:
    with catalog(write=True) as session:
        for row in session.exec(select(Operation).where(col(Operation.finished_at).is_not(None))).all():
            row.finished_at = utc_now() - timedelta(days=2)
    assert view(days=1).paces == []
    assert len(view(days=3).paces) == 1


def test_store_is_counted_estimated_or_not_asked(home: Home) -> None:
    told = view()
    assert "The bucket was not listed" in markdown(told)
    told.store = StoreLine(chunks=1234, bytes=3 << 20, exact=True)
    assert "3.0 MiB in 1,234 chunks" in markdown(told)
    told.store.exact = False
    assert "about 3.0 MiB in about 1,234 chunks" in markdown(told)
    assert "listed in part" in markdown(told)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0.0 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")]
)
def test_duration_has_two_units(seconds: float, told: str) -> None:
    assert _duration(seconds) == told


WITHOUT_PREFECT = """
import sys
from flows.cli import main
status = main(sys.argv[1:])
assert "prefect" not in sys.modules
sys.exit(status)
"""


def ims(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT_PREFECT, *arguments], capture_output=True, text=True)


def test_command_prints_it_without_prefect(filled: Home) -> None:
    done = ims("report")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Catalog and capacity")
    answer = json.loads(ims("report", "--json").stdout)
    assert (answer["dedup_factor"], answer["paces"][0]["runs"]) == (2.0, 13)


@pytest.mark.parametrize("days", ["0", "367"])
def test_command_refuses_days_without_bounds(home: Home, days: str) -> None:
    done = ims("report", "--days", days)
    assert (done.returncode, "request.days" in done.stderr) == (2, True)
