"""One lifecycle run as the catalog knows it: begun once per idempotency key, held by a lease, ended as done or failed.

A flow wraps its steps in `saga`. A killed process leaves its operation running; the same request takes it over at once on
the same host, or when the lease has ended. The rows are `models.operations`; what the steps do is in the other modules here.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from prefect.context import FlowRunContext

from models.ecs import fail_ecs
from models.exceptions import CatalogError
from models.image_changes import fail_image
from models.locks import lock_ecs, unlock_ecs
from models.operation_finding import get_operation, unfinished_key
from models.operations import LEASE_SECONDS, Lease, Request, begin_operation, fail, finish, heartbeat, step_detail
from models.tables import Ecs, Image
from models.trail import Actor
from models.vocabulary import UNFINISHED_IMAGE, EcsState
from tasks.engine import logs
from tasks.engine.errors import ImsError, OperationBusy
from tasks.events import tell_failed
from tasks.holders import is_alive, this_process
from tasks.resources import catalog, require_account

log = logging.getLogger("ims.saga")
SUBJECTS = ("image", "ecs", "version", "listing")
"""Kinds of subjects whose ids requests have among their facts."""


@dataclass
class Saga:
    """A held operation. Steps say what they are `about`, and put what the run gives into `result`."""

    operation_id: str
    account: str
    kind: str
    lease: Lease | None
    subject: str | None = None
    result: dict[str, Any] | None = None
    flow_run_id: str | None = None
    attempts: int = 1
    begun: float = field(default_factory=time.monotonic)

    @property
    def finished(self) -> bool:
        """An earlier run with the same key did it; `result` is its result."""
        return self.lease is None

    @property
    def held(self) -> Lease:
        """The lease, for writes on the operation."""
        if self.lease is None:
            raise ValueError(f"operation {self.operation_id} is done")
        return self.lease

    def about(self, kind: str, subject_id: str) -> None:
        """Note which subject the run makes; every line that it writes from now on names it."""
        self.subject = subject_id
        logs.note(**{kind: subject_id})

    @property
    def actor(self) -> Actor:
        return Actor(self.account, operation_id=self.operation_id, flow_run_id=self.flow_run_id)


Undo = Callable[[Saga, BaseException], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What identifies a request: the same facts without a key continue the last unfinished run of those facts.

    `locks` is the ECS that the run has to itself until it ends, or until `release_lock`.
    """

    kind: str
    account: str
    key: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    locks: str | None = None

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def saga(call: Call, *, undo: Undo | None = None) -> Iterator[Saga]:
    """Begin or continue the operation of `call`; done when the body ends, failed with its error when it raises.

    `undo` gets the error and removes what the run left outside the catalog; it must bear being repeated.
    """
    logs.to_file()
    held = _begin(call)
    with logs.binding(**_ids(call, held)):
        if held.finished:
            yield held
            return
        _say(f"{held.kind} begun", event="operation.begun", attempt=held.attempts)
        with _heartbeats(held):
            try:
                yield held
            except BaseException as error:
                _undo(held, undo, error)
                _record_failure(held, error)
                raise
            _record_result(held)


def release_lock(held: Saga) -> None:
    """Give the ECS back before the run ends; again is the same."""
    with catalog(write=True) as session:
        unlock_ecs(session, operation_id=held.operation_id)


def recorded(held: Saga, step: str) -> dict[str, Any] | None:
    """What this operation recorded of a step, in whichever attempt; None where it was never done."""
    with catalog() as session:
        operation = get_operation(session, account=held.account, operation_id=held.operation_id)
        return step_detail(operation, name=step)


def _begin(call: Call) -> Saga:
    run = FlowRunContext.get()
    flow_run_id = str(run.flow_run.id) if run and run.flow_run else None
    with catalog(write=True) as session:
        account = require_account(session, account=call.account)
        key = call.key or unfinished_key(session, account=account, kind=call.kind, fingerprint=call.fingerprint) or _new_key()
        request = Request(kind=call.kind, account=account, key=key, fingerprint=call.fingerprint, flow_run_id=flow_run_id)
        begun = begin_operation(session, request=request, owner=this_process(), is_alive=is_alive)
        row = begun.operation
        if call.locks is not None and begun.lease is not None:
            lock_ecs(session, ecs_id=call.locks, operation_id=row.id, is_alive=is_alive)
        return Saga(
            operation_id=row.id,
            account=account,
            kind=call.kind,
            lease=begun.lease,
            subject=row.subject_id,
            result=row.result,
            flow_run_id=flow_run_id,
            attempts=row.attempts,
        )


def _ids(call: Call, held: Saga) -> dict[str, str | None]:
    """What every line of the run names: the operation, who asks, and what it is about as far as the request tells."""
    asked = {kind: call.facts.get(kind) for kind in SUBJECTS}
    known = {kind: value for kind, value in asked.items() if isinstance(value, str)}
    run = {"operation": held.operation_id, "kind": held.kind, "account": held.account, "flow_run": held.flow_run_id}
    return {**run, "subject": held.subject, "ecs": call.locks, **known}


def _say(text: str, *, level: int = logging.INFO, **fields: object) -> None:
    log.log(level, text, extra=fields)


def _new_key() -> str:
    return f"run-{uuid.uuid4()}"


def _record_result(held: Saga) -> None:
    with catalog(write=True) as session:
        finish(session, lease=held.held, result=held.result or {})
        unlock_ecs(session, operation_id=held.operation_id)
    seconds = round(time.monotonic() - held.begun, 3)
    _say(f"{held.kind} done in {seconds:.1f} s", event="operation.done", seconds=seconds)


def _undo(held: Saga, undo: Undo | None, error: BaseException) -> None:
    """The run's own error matters more than one of the clean-up, which the next attempt repeats."""
    if undo is None or not _is_ours(held):
        return
    try:
        undo(held, error)
    except ImsError as failure:
        log.error("operation %s could not be cleaned up after: %s", held.operation_id, failure)


def _is_ours(held: Saga) -> bool:
    """Whether nobody took the operation over meanwhile: what is on the host belongs to that one then."""
    try:
        with catalog(write=True) as session:
            heartbeat(session, lease=held.held)
    except OperationBusy as lost:
        log.error("operation %s is not cleaned up after: %s", held.operation_id, lost)
        return False
    except ImsError:  # no catalog to ask; the clean-up finds that out by itself
        return True
    return True


def _record_failure(held: Saga, error: BaseException) -> None:
    """Note the failure on the operation and on what it was making. The run's own error is raised whatever happens here."""
    code, message = _describe(error)
    failed: Image | Ecs | None = None
    seconds = round(time.monotonic() - held.begun, 3)
    _say(f"{held.kind} failed: {code}: {message}", level=logging.ERROR, event="operation.failed", code=code, seconds=seconds)
    try:
        with catalog(write=True) as session:
            fail(session, lease=held.held, code=code, message=message)
            unlock_ecs(session, operation_id=held.operation_id)
            subject = session.get(Image, held.subject) or session.get(Ecs, held.subject) if held.subject else None
            if isinstance(subject, Image) and subject.state in UNFINISHED_IMAGE:
                fail_image(session, image=subject, code=code, message=message, by=held.actor)
                failed = subject
            if isinstance(subject, Ecs) and subject.state is EcsState.BUILDING:
                fail_ecs(session, ecs=subject, code=code, message=message, by=held.actor)
                failed = subject
    except (ImsError, CatalogError) as failure:
        log.error("operation %s failed and its failure could not be recorded: %s", held.operation_id, failure)
        return
    if failed is not None:
        tell_failed(failed, code=code, message=message)


def _describe(error: BaseException) -> tuple[str, str]:
    if isinstance(error, ImsError):
        return error.code, error.message
    if isinstance(error, Exception):
        return "defect", f"{type(error).__name__}: {error}"
    return "operation.cancelled", "The run was cancelled. Start it again to go on."


@contextmanager
def _heartbeats(held: Saga) -> Iterator[None]:
    """Renew the lease while the body runs; losing it is found out by the next write that names it."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(LEASE_SECONDS / 4):
            try:
                with catalog(write=True) as session:
                    heartbeat(session, lease=held.held)
            except (ImsError, CatalogError) as error:
                log.warning("lease of operation %s not renewed: %s", held.operation_id, error)

    thread = threading.Thread(target=copy_context().run, args=(beat,), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
