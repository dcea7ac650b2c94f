"""Which operations may be forgotten, and what stays; on both databases."""

from __future__ import annotations

from datetime import timedelta

from catalog_rows import Catalog
from sqlmodel import Session, col, select

from models.history import Forgotten, forget_runs
from models.operations import Owner, Request, begin_operation, fail, finish
from models.tables import Audit, Operation, utc_now
from models.tallies import list_tallies
from models.trail import Actor, Change, list_audit, write_audit

ADMIN = Actor("admin")


def run(session: Session, key: str, *, kind: str = "reconcile", days: float = 100) -> str:
    """An operation that ended so many days ago; its key says how."""
    request = Request(kind=kind, account="admin", key=key)
    begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
    assert begun.lease is not None
    if key.startswith("done"):
        finish(session, lease=begun.lease, result={})
    if key.startswith("failed"):
        fail(session, lease=begun.lease, code="defect", message="broken")
    if begun.operation.finished_at:
        begun.operation.finished_at -= timedelta(days=days)
        session.add(begun.operation)
        session.flush()
    return begun.operation.id


def forget(catalog: Catalog, *, days: float = 90, limit: int = 100) -> Forgotten:
    with catalog.write() as session:
        return forget_runs(session, before=utc_now() - timedelta(days=days), limit=limit, by=ADMIN)


def left(catalog: Catalog) -> set[str]:
    with catalog.read() as session:
        return set(session.exec(select(Operation.key)).all())


def test_old_scheduled_runs_go_with_the_rows_about_them(catalog: Catalog) -> None:
    with catalog.write() as session:
        gone = run(session, "done")
        run(session, "done-young", days=80)
        run(session, "done-import", kind="import")
        run(session, "failed")
        run(session, "running")
    assert forget(catalog) == Forgotten(1, 1)
    assert left(catalog) == {"done-young", "done-import", "failed", "running"}
    with catalog.read() as session:
        assert session.exec(select(Audit).where(col(Audit.subject_id) == gone)).all() == []


def test_run_that_changed_something_stays(catalog: Catalog) -> None:
    with catalog.write() as session:
        operation = run(session, "done")
        write_audit(
            session, by=Actor("admin", operation), change=Change("image", "some-image", "alice", "active", "deactivated")
        )
    assert forget(catalog) == Forgotten(0, 0)
    assert left(catalog) == {"done"}


def test_trail_says_that_rows_went_and_keeps_all_others(catalog: Catalog) -> None:
    with catalog.write() as session:
        run(session, "done")
        run(session, "done-2")
        before = len(session.exec(select(Audit)).all())
    forget(catalog)
    with catalog.read() as session:
        assert len(session.exec(select(Audit)).all()) == before - 2 + 1
        row = list_audit(session, account="admin")[0]
    assert (row.kind, row.who, row.new, row.detail["operations"], row.detail["rows"]) == ("history", "admin", "forgotten", 2, 2)


def test_oldest_go_first_and_no_more_than_asked(catalog: Catalog) -> None:
    with catalog.write() as session:
        for number in range(5):
            run(session, f"done-{number}", days=100 + number)
    assert forget(catalog, limit=3).operations == 3
    assert left(catalog) == {"done-0", "done-1"}
    assert forget(catalog, limit=3).operations == 2
    assert forget(catalog, limit=3) == Forgotten(0, 0)


def test_sums_stay(catalog: Catalog) -> None:
    with catalog.write() as session:
        run(session, "done")
    forget(catalog)
    with catalog.read() as session:
        assert [(tally.kind, tally.ended) for tally in list_tallies(session)] == [("reconcile", 1)]
