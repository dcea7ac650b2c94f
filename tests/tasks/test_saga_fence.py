"""A run that stood still while its operation was taken over removes nothing when it wakes: what is there is another's."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.embedded.catalog import prepare
from models.operations import Owner, take_abandoned
from models.tables import Operation, utc_now
from tasks.engine.settings import load_settings
from tasks.resources import catalog
from tasks.sagas import Call, Saga, saga


class Broke(Exception):
    """What ends the body."""


@pytest.fixture
def undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A catalog of its own; ids of the operations that were cleaned up after."""
    for name in ("IMS_API_KEY", "IMS_ACCOUNT", "IMS_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IMS_HOME", str(tmp_path))
    prepare(load_settings())
    return []


def run(undone: list[str], *, taken_over: bool) -> str:
    def undo(held: Saga, _error: BaseException) -> None:
        undone.append(held.operation_id)

    with suppress(Broke), saga(Call(kind="launch", account="admin"), undo=undo) as held:
        if taken_over:
            take_over(held.operation_id)
        raise Broke
    return held.operation_id


def take_over(operation_id: str) -> None:
    """What another host does once the lease has ended."""
    with catalog(write=True) as session:
        operation = session.get_one(Operation, operation_id)
        operation.lease_expires_at = utc_now() - timedelta(seconds=1)
        session.add(operation)
    with catalog(write=True) as session:
        other = Owner("there", 1, "0")
        assert take_abandoned(session, operation=operation, owner=other, is_alive=lambda _: True) is not None


def test_run_that_holds_its_operation_cleans_up(undone: list[str]) -> None:
    assert run(undone, taken_over=False) in undone


def test_run_that_was_taken_over_leaves_all_as_it_is(undone: list[str]) -> None:
    assert run(undone, taken_over=True)
    assert undone == []
