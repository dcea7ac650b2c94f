"""What a reconciliation asks of the catalog, and the one way it takes an operation over, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, race
from sqlmodel import Session

from models.exceptions import LeaseLost, OperationBusy
from models.images import delete_image
from models.locks import ecs_locked_by, lock_ecs
from models.operations import (
    Begun,
    Lease,
    Owner,
    Request,
    begin_operation,
    bind_subject,
    fail,
    finish,
    heartbeat,
    take_abandoned,
)
from models.reconciliation import (
    deleted_images,
    ecs_in_use,
    ecs_rows,
    hold_operation,
    operation_rows,
    orphaned_images,
)
from models.tables import Operation
from models.trail import Actor
from models.vocabulary import OperationState

DEAD, OTHER, REPAIRER = Owner("here", 10, "100"), Owner("here", 11, "101"), Owner("here", 12, "102")


def alive(owner: Owner) -> bool:
    return owner != DEAD


def begin(session: Session, *, owner: Owner = DEAD, key: str = "k1", lease_seconds: int = 60) -> Begun:
    request = Request(kind="import", account="alice", key=key)
    return begin_operation(session, request=request, owner=owner, is_alive=alive, lease_seconds=lease_seconds)


def lease_of(begun: Begun) -> Lease:
    assert begun.lease is not None
    return begun.lease


def take(session: Session, operation: Operation) -> Lease | None:
    return take_abandoned(session, operation=operation, owner=REPAIRER, is_alive=alive)


def test_abandoned_operation_is_ended_by_whoever_took_it(catalog: Catalog) -> None:
    with catalog.write() as session:
        begun = begin(session)
    with catalog.write() as session:
        lease = take(session, begun.operation)
        assert lease is not None
        with pytest.raises(OperationBusy):
            begin(session, owner=OTHER)
        with pytest.raises(LeaseLost):
            heartbeat(session, lease=lease_of(begun))
        ended = fail(session, lease=lease, code="operation.abandoned", message="run it again")
        assert (ended.state, ended.attempts) == (OperationState.FAILED, 1)
        assert begin(session, owner=OTHER).operation.attempts == 2


def test_operation_that_somebody_runs_or_ended_is_not_taken(catalog: Catalog) -> None:
    with catalog.write() as session:
        live, done = begin(session, owner=OTHER, key="live"), begin(session, key="done")
        finish(session, lease=lease_of(done), result={})
        assert take(session, live.operation) is None
        assert take(session, done.operation) is None


def test_operation_whose_lease_ended_is_taken_from_any_process(catalog: Catalog) -> None:
    with catalog.write() as session:
        assert take(session, begin(session, owner=OTHER, lease_seconds=0).operation) is not None


def test_operation_that_was_taken_up_meanwhile_is_not_taken(catalog: Catalog) -> None:
    """Also where the one who took it up is dead as well by now: that is another look's finding."""
    with catalog.write() as session:
        seen = begin(session).operation.model_copy()
    with catalog.write() as session:
        begin(session)
    with catalog.write() as session:
        assert take(session, seen) is None


def test_takeover_and_repair_have_one_winner(catalog: Catalog) -> None:
    with catalog.write() as session:
        seen = begin(session).operation
    won: list[str] = []

    def repair() -> None:
        with catalog.write() as session:
            lease = take(session, seen)
        won.extend(["repair"] if lease else [])

    def run() -> None:
        with catalog.write() as session:
            begin(session, owner=OTHER)
        won.append("run")

    race([repair, run])
    assert len(won) == 1


def test_image_is_orphaned_unless_a_running_operation_makes_it(catalog: Catalog) -> None:
    with catalog.write() as session:
        made, left = catalog.queued(session, "made"), catalog.queued(session, "left")
        catalog.active(session, "finished")
        lease = lease_of(begin(session))
        bind_subject(session, lease=lease, subject_id=made.id)
        assert [image.id for image in orphaned_images(session)] == [left.id]
        assert orphaned_images(session, only=made.id) == []
        fail(session, lease=lease, code="c", message="m")
        assert {image.id for image in orphaned_images(session)} == {made.id, left.id}
        assert [image.id for image in orphaned_images(session, only=made.id)] == [made.id]


def test_ecs_is_in_use_while_an_operation_locks_or_builds_it(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        built, locked, free = (catalog.building(session, image, name=name) for name in ("built", "locked", "free"))
        builds, locks = begin(session, key="builds"), begin(session, key="locks")
        bind_subject(session, lease=lease_of(builds), subject_id=built.id)
        lock_ecs(session, ecs_id=locked.id, operation_id=locks.operation.id, is_alive=alive)
        ids = [built.id, locked.id, free.id]
        assert ecs_in_use(session, ids=ids, but="") == {built.id, locked.id}
        assert ecs_in_use(session, ids=ids, but=locks.operation.id) == {built.id}
        assert ecs_in_use(session, ids=[], but="") == set()
        found = ecs_locked_by(session, operation_id=locks.operation.id)
        assert found is not None
        assert found.id == locked.id
        assert set(ecs_rows(session, ids=[free.id, "unknown"])) == {free.id}


def test_operations_and_tombstones_are_found_by_id(catalog: Catalog) -> None:
    with catalog.write() as session:
        begun = begin(session)
        kept, gone = catalog.active(session, "kept"), catalog.active(session, "gone")
        delete_image(session, image_id=gone.id, by=Actor("alice"))
        assert deleted_images(session, ids=[kept.id, gone.id, "unknown"]) == {gone.id}
        assert set(operation_rows(session, ids=[begun.operation.id, "unknown"])) == {begun.operation.id}
        assert hold_operation(session, operation_id="unknown") is None
        held = hold_operation(session, operation_id=begun.operation.id)
        assert held is not None
        assert held.state is OperationState.RUNNING
