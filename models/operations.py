"""Operations: one lifecycle run each, found again by its idempotency key and held by one live process at a time.

A process holds an operation by a lease that it renews (`heartbeat`). Every write names the lease's token, so a process that was
taken over while it stood still can write nothing any more. The steps' work is in `tasks`; this is their log.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, KeyReused, LeaseLost, NotVisible, OperationBusy
from models.states import transition
from models.store_tables import HeldDisk, StoreWriter
from models.tables import Operation, utc_now
from models.tallies import count_attempt
from models.trail import Actor
from models.validation import storable
from models.vocabulary import OperationState, Outcome

LEASE_SECONDS = 60
MAX_KEY = 128


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from later ones of the same number by the time it started (field 22 of /proc/PID/stat)."""

    host: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`key` is the caller's idempotency key; `fingerprint`, when given, must be the same each time the key is used."""

    kind: str
    account: str
    key: str
    fingerprint: str = ""
    flow_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write on an operation."""

    operation_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation to run (`lease` held; `operation.steps` say what is done already), or one that is done (`lease` None)."""

    operation: Operation
    lease: Lease | None


def begin_operation(
    session: Session, *, request: Request, owner: Owner, is_alive: Callable[[Owner], bool], lease_seconds: int = LEASE_SECONDS
) -> Begun:
    """The operation of this account, kind and key: new, done before, failed before and to be tried again, or taken over.

    `is_alive` says whether another owner still runs; one on a host that cannot be asked counts as alive until its lease ends.
    Raises OperationBusy while it does, KeyReused, FieldInvalid.
    """
    if not 1 <= len(request.key) <= MAX_KEY:
        raise FieldInvalid("key", f"1 to {MAX_KEY} characters")
    token = str(uuid.uuid4())
    held = {"lease_token": token, "flow_run_id": request.flow_run_id, **_lease_columns(owner, seconds=lease_seconds)}
    operation = _insert(session, request=request, held=held)
    if operation is None:
        operation = _locked(session, request=request)
        if operation.state is OperationState.DONE:
            return Begun(operation, None)
        _take(session, operation=operation, request=request, held=held, is_alive=is_alive)
    return Begun(operation, Lease(operation.id, token))


def is_held(operation: Operation, *, is_alive: Callable[[Owner], bool]) -> bool:
    """Whether a live process runs the operation now."""
    owner = Owner(operation.lease_host, operation.lease_pid, operation.lease_started)
    return operation.state is OperationState.RUNNING and operation.lease_expires_at > utc_now() and is_alive(owner)


def take_abandoned(
    session: Session,
    *,
    operation: Operation,
    owner: Owner,
    is_alive: Callable[[Owner], bool],
    lease_seconds: int = LEASE_SECONDS,
) -> Lease | None:
    """The right to end a running operation that nobody runs any more; None where somebody does, ended it or was faster.

    Until that lease ends nobody else can take it up, so what it left behind is undone in peace. For the operator alone.
    """
    query = select(Operation).where(
        Operation.id == operation.id,
        Operation.lease_token == operation.lease_token,
        Operation.state == OperationState.RUNNING,
    )
    row = session.exec(query.with_for_update().execution_options(populate_existing=True)).first()
    if row is None or is_held(row, is_alive=is_alive):
        return None
    token = str(uuid.uuid4())
    row.sqlmodel_update({"lease_token": token, **_lease_columns(owner, seconds=lease_seconds)})
    _save(session, row)
    return Lease(row.id, token)


def actor_of(operation: Operation) -> Actor:
    """Who acts in this run, for the audit trail."""
    return Actor(operation.account, operation.id, operation.flow_run_id)


def bind_subject(session: Session, *, lease: Lease, subject_id: str) -> None:
    """Note which image or ECS the operation is about, in the transaction that creates it: a retry finds it here."""
    operation = require_lease(session, lease=lease)
    if operation.subject_id != subject_id:
        release_holds(session, operation_id=operation.id)  # of a subject that was deleted
    operation.subject_id = subject_id
    _save(session, operation)


def heartbeat(session: Session, *, lease: Lease, lease_seconds: int = LEASE_SECONDS) -> None:
    """Hold the operation for another `lease_seconds`. Raises LeaseLost."""
    operation = require_lease(session, lease=lease)
    operation.lease_expires_at = utc_now() + timedelta(seconds=lease_seconds)
    _save(session, operation)


def record_step(session: Session, *, lease: Lease, name: str, detail: Mapping[str, Any] | None = None) -> None:
    """Note that a step is done, with what the next attempt needs to skip it. Raises LeaseLost."""
    operation = require_lease(session, lease=lease)
    step = {"name": name, "at": utc_now().isoformat(), "attempt": operation.attempts, "detail": dict(detail or {})}
    # A new list: SQLAlchemy does not see changes inside a JSON value.
    operation.steps = [*operation.steps, step]
    _save(session, operation)


def step_detail(operation: Operation, *, name: str) -> dict[str, Any] | None:
    """What the newest record of a step says; None when the step was never done."""
    details: list[dict[str, Any]] = [step["detail"] for step in operation.steps if step["name"] == name]
    return details[-1] if details else None


def finish(session: Session, *, lease: Lease, result: Mapping[str, Any]) -> Operation:
    """Done: the same key gives this result from now on. Raises LeaseLost."""
    operation = require_lease(session, lease=lease)
    release_holds(session, operation_id=operation.id)
    values = {"result": dict(result), "finished_at": utc_now()}
    transition(session, subject=operation, new=OperationState.DONE, by=actor_of(operation), values=values)
    count_attempt(session, operation=operation, outcome=Outcome.DONE)
    return operation


def fail(session: Session, *, lease: Lease, code: str, message: str) -> Operation:
    """Given up for now: the same key tries again. Raises LeaseLost."""
    operation = require_lease(session, lease=lease)
    session.exec(
        delete(StoreWriter).where(col(StoreWriter.operation_id) == operation.id)
    )  # its holds stay for the next attempt
    values = {"error_code": code, "error_message": storable(message), "finished_at": utc_now()}
    transition(session, subject=operation, new=OperationState.FAILED, by=actor_of(operation), values=values)
    count_attempt(session, operation=operation, outcome=Outcome.FAILED)
    return operation


def release_holds(session: Session, *, operation_id: str) -> None:
    """The operation writes nothing and keeps no disk for itself any more."""
    session.exec(delete(StoreWriter).where(col(StoreWriter.operation_id) == operation_id))
    session.exec(delete(HeldDisk).where(col(HeldDisk.operation_id) == operation_id))


def _lease_columns(owner: Owner, *, seconds: int) -> dict[str, Any]:
    return {
        "lease_host": owner.host,
        "lease_pid": owner.pid,
        "lease_started": owner.started,
        "lease_expires_at": utc_now() + timedelta(seconds=seconds),
    }


def _insert(session: Session, *, request: Request, held: Mapping[str, Any]) -> Operation | None:
    """The new row, or None where one of this key exists; a racing insert is waited for."""
    operation = Operation(kind=request.kind, account=request.account, key=request.key, fingerprint=request.fingerprint, **held)
    try:
        with session.begin_nested():
            session.add(operation)
    except IntegrityError:
        return None
    return operation


def _locked(session: Session, *, request: Request) -> Operation:
    query = select(Operation).where(
        Operation.account == request.account, Operation.kind == request.kind, Operation.key == request.key
    )
    locked = query.with_for_update().execution_options(populate_existing=True)
    operation = session.exec(locked).first()
    if operation is None:  # so it was the account that the insert missed
        raise NotVisible("account", request.account)
    if operation.fingerprint != request.fingerprint:
        raise KeyReused(request.kind, request.key)
    return operation


def _take(
    session: Session,
    *,
    operation: Operation,
    request: Request,
    held: Mapping[str, Any],
    is_alive: Callable[[Owner], bool],
) -> None:
    before = Owner(operation.lease_host, operation.lease_pid, operation.lease_started)
    values = {**held, "attempts": operation.attempts + 1, "begun_at": utc_now()}
    if operation.state is OperationState.FAILED:
        values |= {"error_code": None, "error_message": None, "finished_at": None}
        by = Actor(request.account, operation.id, request.flow_run_id)
        transition(session, subject=operation, new=OperationState.RUNNING, by=by, values=values)
        return
    again = before == _owner_in(held) and operation.flow_run_id == request.flow_run_id
    if not again and is_held(operation, is_alive=is_alive):
        raise OperationBusy(operation.id, f"process {before.pid} on {before.host}")
    count_attempt(session, operation=operation, outcome=Outcome.LOST)
    operation.sqlmodel_update(values)
    _save(session, operation)


def _owner_in(held: Mapping[str, Any]) -> Owner:
    return Owner(held["lease_host"], held["lease_pid"], held["lease_started"])


def require_lease(session: Session, *, lease: Lease) -> Operation:
    """The operation that the lease is for, which stays so until the caller's transaction ends. Raises LeaseLost."""
    query = select(Operation).where(
        Operation.id == lease.operation_id,
        Operation.lease_token == lease.token,
        Operation.state == OperationState.RUNNING,
    )
    operation = session.exec(query.with_for_update().execution_options(populate_existing=True)).first()
    if operation is None:
        raise LeaseLost(lease.operation_id)
    return operation


def _save(session: Session, operation: Operation) -> None:
    operation.updated_at = utc_now()
    session.add(operation)
    session.flush()
