"""How old runs are forgotten: as the setting says, in batches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from catalog_home import Home
from sqlmodel import select

from models.operations import Owner, Request, begin_operation, finish
from models.tables import Operation, utc_now
from tasks import history
from tasks.history import HistoryView, forget
from tasks.resources import catalog
from tasks.sagas import Saga


def begin(key: str) -> Saga:
    with catalog(write=True) as session:
        request = Request(kind="reconcile", account="admin", key=key)
        begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
    return Saga(operation_id=begun.operation.id, account="admin", kind="reconcile", lease=begun.lease)


@pytest.fixture
def runs(home: Home) -> int:
    """Seven old ones."""
    for number in range(7):
        saga = begin(str(number))
        with catalog(write=True) as session:
            finish(session, lease=saga.held, result={}).finished_at = utc_now() - timedelta(days=91)
    return 7


def left() -> int:
    with catalog() as session:
        return len(session.exec(select(Operation)).all())


@pytest.mark.parametrize(("days", "gone"), [(None, 7), ("92", 0), ("0", 0)])
def test_setting_says_what_is_old(runs: int, monkeypatch: pytest.MonkeyPatch, days: str | None, gone: int) -> None:
    if days is not None:
        monkeypatch.setenv("IMS_HISTORY_DAYS", days)
    view: HistoryView = forget.fn(begin("now"))
    assert (view.operations, view.rows, left()) == (gone, gone, 1 + runs - gone)


def test_run_is_bounded_and_the_next_one_goes_on(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "BATCH", 2)
    monkeypatch.setattr(history, "BATCHES", 3)
    saga = begin("now")
    assert [forget.fn(saga).operations for _ in range(3)] == [6, 1, 0]
