"""Steps on one object of the inbox: look at it, read its sidecar, leave beside it what became of it.

The import itself is the flow `import_image`. What was announced is not believed: the object is looked at here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from prefect import task

from models.operation_finding import get_operation
from models.operations import record_step
from models.tables import utc_now
from tasks.engine.blobs.objects import Missing
from tasks.engine.errors import ImsError, OperationBusy, RequestRefused, SourceRefused, StateRefused, Unavailable
from tasks.engine.inbox.names import RESULT, Place, check_name, is_beside
from tasks.engine.inbox.notification import resource_of
from tasks.engine.settings import load_settings
from tasks.events import of_account, tell
from tasks.inboxes import KIND, REFUSED, InboxView, Seen, State, find, unsettled, views
from tasks.markdown import cell, code, size, table
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, inbox_bucket, prove
from tasks.sagas import Call, Saga, saga
from tasks.sidecars import Sidecar, import_parameters, read_sidecar
from tasks.views import ImageView

log = logging.getLogger("ims.inbox")
REQUEST = "request"
MAX_DEFECTS = 5
"""Attempts after which a defect is told like a refusal."""
CLOCK_SECONDS = 1.0
"""What the store's clock may lack of a whole second."""


@task(**RETRIED, task_run_name="look at {key}")
def look(account: str, key: str) -> InboxView:
    """The object and how far it is, once this process has proved the account. One that has no sidecar yet is given time for it.

    Raises RequestRefused(inbox_key) for a name that cannot be, SourceRefused(missing) where nothing is there.
    """
    account, bucket = prove(account), inbox_bucket()
    if is_beside(check_name(key)):
        raise RequestRefused("inbox_key", f"{key!r} is a sidecar or a result", remedy="Name the object beside it.")
    seen = find(bucket, account, key)
    if seen is not None and (late := unsettled(seen, now=utc_now())):
        log.info("%s has no sidecar yet: looking again in %.0f s", key, late.total_seconds())
        time.sleep(late.total_seconds() + CLOCK_SECONDS)
        seen = find(bucket, account, key)
    if seen is None:
        raise SourceRefused("missing", f"{key!r} is not in the inbox of {account}", remedy="Put it there first.")
    return views(account, [seen])[0]


@contextmanager
def claimed(seen: Seen) -> Iterator[Saga | None]:
    """The operation of this version of the object, one however often it is announced; None where another run has it."""
    with ExitStack() as stack:
        held: Saga | None = None
        # Entered here, so that a busy operation of the import inside is a failure like any other.
        with suppress(OperationBusy):
            call = Call(kind=KIND, account=seen.account, key=seen.version)
            held = stack.enter_context(saga(call, undo=leaves_refusal(seen)))
        yield held


@task(**RETRIED, task_run_name="read sidecar of {seen.key}")
def read_request(saga: Saga, seen: Seen) -> dict[str, Any]:
    """Parameters of the import. What was begun goes on as it was begun, unless it was refused. Raises RequestRefused."""
    with catalog() as session:
        operation = get_operation(session, account=saga.account, operation_id=saga.operation_id)
        told = [step for step in operation.steps if step["name"] in (REQUEST, REFUSED)]
    if told and told[-1]["name"] == REQUEST:
        return dict(told[-1]["detail"])
    sidecar = _sidecar(seen)
    wanted = import_parameters(sidecar, key=seen.key, account=saga.account, version=seen.version, etag=seen.etag)
    with catalog(write=True) as session:
        record_step(session, lease=saga.held, name=REQUEST, detail=wanted)
    return wanted


@task(**RETRIED, task_run_name="leave result of {seen.key}")
def leave_result(saga: Saga, seen: Seen, image: ImageView | None) -> InboxView:
    """Put what the import made beside the object and publish it; without an image, what an earlier run made of this version."""
    told = saga.result or {} if image is None else _told(saga, seen, image)
    _put(seen, told)
    saga.result = told
    view = InboxView(**_facts(seen), state=State.IMPORTED, image_id=told.get("image_id"))
    if image is not None:
        tell_inbox("imported", view, image_id=image.id, digest=image.digest)
    return _reported(view)


def leaves_refusal(seen: Seen) -> Callable[[Saga, BaseException], None]:
    """What is done where the run ends with an error: a refusal is put beside the object, and stands until somebody acts."""

    def leave(saga: Saga, error: BaseException) -> None:
        if not stands(error, attempts=saga.attempts):
            return
        view = _refused(seen, error)
        run_url = _run_url(saga)
        _put(seen, {**_named(seen, view.state), "code": view.code, "message": view.message,
                    "remedy": getattr(error, "remedy", ""), "run_url": run_url})  # fmt: skip
        with catalog(write=True) as session:
            record_step(session, lease=saga.held, name=REFUSED, detail={"sidecar": seen.sidecar, "code": view.code})
        tell_inbox("refused", view, code=view.code, message=view.message)
        _reported(view)

    return leave


def stands(error: BaseException, *, attempts: int) -> bool:
    """Whether the writer of the object is told; anything else is left to later sweeps, which come less and less often.

    A store that is set up wrongly is its operator's matter. A defect may be Prefect's absence: it counts in the end.
    """
    if isinstance(error, Unavailable) or (isinstance(error, StateRefused) and error.kind == "store"):
        return False
    return isinstance(error, ImsError) or (isinstance(error, Exception) and attempts >= MAX_DEFECTS)


@task(**ONCE, task_run_name="report")
def report_object(view: InboxView, *, taken: bool = False) -> InboxView:
    """Publish why there is nothing to do; `taken` where another run was faster."""
    return _reported(view.model_copy(update={"state": State.UNDER_WAY}) if taken else view)


def tell_inbox(what: str, view: InboxView, **facts: object) -> None:
    """Emit `ims.inbox.<what>` about the object."""
    subject = resource_of(Place(view.account, view.key)).removeprefix("ims.inbox.")
    named = {"account": view.account, "key": view.key, "etag": view.etag, "size": view.size}
    related = [of_account(view.account)]
    tell(f"inbox.{what}", kind="inbox", subject=subject, name=view.whole_key, related=related, **named, **facts)


def _sidecar(seen: Seen) -> Sidecar:
    if seen.sidecar is None:
        return Sidecar()
    try:
        return read_sidecar(inbox_bucket(), seen.whole_key)
    except Missing:
        return Sidecar()


def _told(saga: Saga, seen: Seen, image: ImageView) -> dict[str, Any]:
    disks = [{"index": disk.index, "virtual_size": disk.virtual_size, "digest": disk.digest} for disk in image.disks]
    return {
        **_named(seen, State.IMPORTED),
        "image_id": image.id,
        "name": image.name,
        "image_state": image.state,
        "digest": image.digest,
        "disks": disks,
        "bytes_stored": image.bytes_stored,
        "bytes_new": image.bytes_new,
        "run_url": _run_url(saga),
    }


def _named(seen: Seen, state: State) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"key": seen.key, "etag": seen.etag, "size": seen.size, "state": state.value, "at": at}


def _refused(seen: Seen, error: BaseException) -> InboxView:
    """What a defect says of itself is for the run's log: the account is told that it is none of its making."""
    code, message = "defect", "the service failed over it; its operator can see the run"
    if isinstance(error, ImsError):
        code, message = error.code, error.message
    return InboxView(**_facts(seen), state=State.REFUSED, code=code, message=message)


def _facts(seen: Seen) -> dict[str, Any]:
    return seen.model_dump(include=set(Seen.model_fields))


def _put(seen: Seen, told: dict[str, Any]) -> None:
    """Leave a result, unless the object is another one by now: its own run tells of it."""
    bucket = inbox_bucket()
    now = find(bucket, seen.account, seen.key)
    if now is not None and now.version == seen.version:
        bucket.put(seen.whole_key + RESULT, json.dumps(told, indent=1).encode())


def _run_url(saga: Saga) -> str | None:
    return load_settings().run_url(saga.flow_run_id) if saga.flow_run_id else None


def _reported(view: InboxView) -> InboxView:
    rows = [
        ("Object", code(view.whole_key)),
        ("Size", size(view.size)),
        ("State", f"**{view.state}**"),
        ("Image", f"`{view.image_id}`" if view.image_id else ""),
        ("Why", f"{view.code or ''} {code(view.message or '')}"),
    ]
    text = f"# From the inbox of {cell(view.account)}\n\n{table(('', ''), rows)}"
    publish(
        key=resource_of(Place(view.account, view.key)).replace(".", "-"), text=text, title=f"{view.whole_key}: {view.state}"
    )
    return view
