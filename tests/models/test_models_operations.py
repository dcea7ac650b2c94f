"""Operations: idempotency, leases and takeover, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, race
from sqlmodel import Session

from models.exceptions import FieldInvalid, KeyReused, LeaseLost, NotVisible, OperationBusy
from models.operation_finding import (
    KEYS_AT_ONCE,
    get_operation,
    list_operations,
    operations_of_keys,
    running_operations,
    unfinished_key,
)
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
    record_step,
    step_detail,
)
from models.tables import Image, Operation
from models.trail import list_audit
from models.vocabulary import OperationState

ME, OTHER = Owner("here", 10, "100"), Owner("here", 11, "101")
REQUEST = Request(kind="import", account="alice", key="k1")


def begin(
    session: Session, *, request: Request = REQUEST, owner: Owner = ME, alive: bool = True, lease_seconds: int = 60
) -> Begun:
    return begin_operation(session, request=request, owner=owner, is_alive=lambda owner: alive, lease_seconds=lease_seconds)


def lease_of(begun: Begun) -> Lease:
    assert begun.lease is not None
    return begun.lease


def test_first_begin_makes_a_running_operation(catalog: Catalog) -> None:
    with catalog.write() as session:
        begun = begin(session)
    with catalog.read() as session:
        found = get_operation(session, account="alice", operation_id=begun.operation.id)
    assert (found.state, found.attempts, found.lease_pid) == (OperationState.RUNNING, 1, 10)


def test_done_operation_gives_its_result_again(catalog: Catalog) -> None:
    with catalog.write() as session:
        finish(session, lease=lease_of(begin(session)), result={"id": "i1"})
    with catalog.write() as session:
        again = begin(session, owner=OTHER)
    assert (again.lease, again.operation.result) == (None, {"id": "i1"})


def test_failed_operation_is_tried_again_with_its_steps(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = lease_of(begin(session))
        record_step(session, lease=lease, name="transfer", detail={"digest": "d"})
        fail(session, lease=lease, code="store.unavailable", message="gone \x00")
    with catalog.write() as session:
        again = begin(session, owner=OTHER).operation
    assert (again.state, again.attempts, again.error_code, again.finished_at) == (OperationState.RUNNING, 2, None, None)
    assert step_detail(again, name="transfer") == {"digest": "d"}
    assert step_detail(again, name="verify") is None


def test_operation_of_a_live_process_is_busy(catalog: Catalog) -> None:
    with catalog.write() as session:
        begin(session)
    with pytest.raises(OperationBusy, match="process 10 on here"), catalog.write() as session:
        begin(session, owner=OTHER)


def test_operation_of_the_same_process_in_another_run_is_busy(catalog: Catalog) -> None:
    other_run = Request(kind="import", account="alice", key="k1", flow_run_id="run-2")
    with catalog.write() as session:
        begin(session)
        assert begin(session).lease is not None
        with pytest.raises(OperationBusy):
            begin(session, request=other_run)


@pytest.mark.parametrize(("alive", "lease_seconds"), [(False, 60), (True, 0)])
def test_operation_of_a_dead_or_expired_owner_is_taken_over(catalog: Catalog, alive: bool, lease_seconds: int) -> None:
    with catalog.write() as session:
        stale = lease_of(begin(session, lease_seconds=lease_seconds))
    with catalog.write() as session:
        taken = begin(session, owner=OTHER, alive=alive)
        assert (taken.operation.attempts, taken.operation.lease_pid) == (2, 11)
        for write in (heartbeat, lambda session, lease: record_step(session, lease=lease, name="late")):
            with pytest.raises(LeaseLost):
                write(session, lease=stale)
        with pytest.raises(LeaseLost):
            finish(session, lease=stale, result={})


def test_heartbeat_keeps_the_lease(catalog: Catalog) -> None:
    with catalog.write() as session:
        heartbeat(session, lease=lease_of(begin(session, lease_seconds=0)))
        with pytest.raises(OperationBusy):
            begin(session, owner=OTHER)


def test_finished_operation_takes_no_more_steps(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = lease_of(begin(session))
        finish(session, lease=lease, result={})
        with pytest.raises(LeaseLost):
            record_step(session, lease=lease, name="late")


def test_keys_of_two_accounts_and_kinds_do_not_meet(catalog: Catalog) -> None:
    requests = [REQUEST, Request(kind="launch", account="alice", key="k1"), Request(kind="import", account="bob", key="k1")]
    with catalog.write() as session:
        assert len({begin(session, request=request).operation.id for request in requests}) == 3
        assert len(list_operations(session, account="alice")) == 2


def test_key_of_another_request_is_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        begin(session, request=Request(kind="import", account="alice", key="k1", fingerprint="disk.vmdk"))
        with pytest.raises(KeyReused):
            begin(session, request=Request(kind="import", account="alice", key="k1", fingerprint="other.vmdk"))


def test_unknown_account_and_bad_key_are_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        with pytest.raises(NotVisible, match="account"):
            begin(session, request=Request(kind="import", account="nobody", key="k1"))
        for key in ("", "k" * 129):
            with pytest.raises(FieldInvalid):
                begin(session, request=Request(kind="import", account="alice", key=key))


def test_another_accounts_operation_is_absent(catalog: Catalog) -> None:
    with catalog.write() as session:
        operation_id = begin(session).operation.id
        with pytest.raises(NotVisible):
            get_operation(session, account="bob", operation_id=operation_id)


def test_reconciliation_finds_what_runs_on_its_host(catalog: Catalog) -> None:
    with catalog.write() as session:
        running = begin(session).operation
        fail(session, lease=lease_of(begin(session, request=Request(kind="x", account="bob", key="k"))), code="c", message="m")
        assert [row.id for row in running_operations(session, host="here")] == [running.id]
        assert running_operations(session, host="there") == []


def test_ends_and_retries_are_on_the_trail(catalog: Catalog) -> None:
    with catalog.write() as session:
        begun = begin(session)
        fail(session, lease=lease_of(begun), code="c", message="m")
        finish(session, lease=lease_of(begin(session)), result={})
    with catalog.read() as session:
        trail = list_audit(session, account="alice", subject_id=begun.operation.id)
    assert [(row.old, row.new) for row in trail][::-1] == [("running", "failed"), ("failed", "running"), ("running", "done")]


def test_eight_racing_begins_make_one_image(catalog: Catalog) -> None:
    def run(pid: int) -> None:
        with catalog.write() as session:
            begun = begin(session, owner=Owner("here", pid, "1"))
            image = catalog.queued(session)
            bind_subject(session, lease=lease_of(begun), subject_id=image.id)

    refusals = race([lambda pid=pid: run(pid) for pid in range(8)])
    assert refusals.count(None) == 1
    assert sum(isinstance(refusal, OperationBusy) for refusal in refusals) == 7
    with catalog.read() as session:
        assert (catalog.count(session, Operation), catalog.count(session, Image)) == (1, 1)


def test_racing_takeovers_have_one_winner(catalog: Catalog) -> None:
    with catalog.write() as session:
        begin(session)

    def take(pid: int) -> None:
        with catalog.write() as session:
            owner = Owner("here", pid, "1")
            begin_operation(session, request=REQUEST, owner=owner, is_alive=lambda owner: owner.pid != ME.pid)

    refusals = race([lambda pid=pid: take(pid) for pid in range(20, 26)])
    assert refusals.count(None) == 1


def test_request_without_a_key_continues_what_is_not_done(catalog: Catalog) -> None:
    request = Request(kind="import", account="alice", key="k1", fingerprint="f")
    same = {"account": "alice", "kind": "import", "fingerprint": "f"}
    with catalog.write() as session:
        assert unfinished_key(session, **same) is None
        begun = begin(session, request=request)
        assert unfinished_key(session, **same) == "k1"
        assert unfinished_key(session, **{**same, "account": "bob"}) is None
        assert unfinished_key(session, **{**same, "fingerprint": "g"}) is None
        finish(session, lease=lease_of(begun), result={})
        assert unfinished_key(session, **same) is None


def test_operations_of_keys_are_the_accounts_own_of_that_kind(catalog: Catalog) -> None:
    keys = [f"k{number}" for number in range(KEYS_AT_ONCE + 2)]
    asked = [("alice", "import", key) for key in (keys[0], keys[-1])] + [("bob", "import", keys[1]), ("alice", "x", keys[2])]
    with catalog.write() as session:
        for account, kind, key in asked:
            begin(session, request=Request(kind=kind, account=account, key=key))
    with catalog.read() as session:
        found = operations_of_keys(session, account="alice", kind="import", keys=keys)
    assert {key: operation.key for key, operation in found.items()} == {key: key for key in (keys[0], keys[-1])}
