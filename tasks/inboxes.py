"""What lies in the inbox and how far each object is, by the bucket's listing and the catalog's operations. No Prefect here.

A *version* of an object is its key, ETag and size; its operation of kind `inbox` is what says that it was imported, once.
A refusal stands while its result lies beside the object and the sidecar is the one that was refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from pydantic import BaseModel

from models.operation_finding import operations_of_keys
from models.operations import is_held
from models.tables import Operation, utc_now
from models.vocabulary import OperationState
from tasks.engine import owner
from tasks.engine.blobs.objects import ObjectInfo, ObjectStore
from tasks.engine.errors import QuotaExceeded, Refused, RequestRefused
from tasks.engine.inbox.names import RESULT, SIDECAR, is_beside, place_of
from tasks.engine.settings import load_settings
from tasks.resources import catalog

KIND = "inbox"
REFUSED = "refused"
"""Name of the step that records a refusal."""

SETTLE = timedelta(seconds=20)
"""How long an object without a sidecar is left alone: its writer may be about to put one."""
PROMPT_ATTEMPTS = 3
LONGEST_PAUSE = timedelta(hours=1)
MAX_OBJECTS = 10_000
"""Objects of one account that are looked at, in the order of their keys."""


class State(StrEnum):
    """How far an object is."""

    WAITING = "waiting"
    DUE = "due"
    UNDER_WAY = "under way"
    PAUSED = "paused"
    IMPORTED = "imported"
    REFUSED = "refused"
    IGNORED = "ignored"


class Seen(BaseModel):
    """One object as the listing has it: size in bytes, ETags of it and of its sidecar, and whether it has a result."""

    account: str
    key: str
    size: int
    etag: str
    modified: datetime
    sidecar: str | None = None
    answered: bool = False

    @property
    def version(self) -> str:
        """Idempotency key of this very content under this name."""
        facts = [load_settings().inbox_bucket, self.account, self.key, self.etag, self.size]
        return f"inbox-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:48]}"

    @property
    def whole_key(self) -> str:
        return f"{self.account}/{self.key}"


class InboxView(Seen):
    """The same with what became of it."""

    state: State
    image_id: str | None = None
    code: str | None = None
    message: str | None = None


def find(bucket: ObjectStore, account: str, key: str) -> Seen | None:
    """One object with what is beside it; None where it is not there."""
    whole = f"{account}/{key}"
    info = _exactly(bucket, whole)
    if info is None:
        return None
    sidecar = _exactly(bucket, whole + SIDECAR)
    answered = _exactly(bucket, whole + RESULT) is not None
    return _seen(account, key, info, sidecar.etag if sidecar else None, answered=answered)


def find_all(bucket: ObjectStore, account: str) -> tuple[list[Seen], list[InboxView]]:
    """The account's objects, and those that are not looked at, with why: for their names, or because there are too many."""
    listed = {info.key: info for info in islice(bucket.list(f"{account}/"), 3 * MAX_OBJECTS)}
    good, bad = list[Seen](), list[InboxView]()
    for whole, info in listed.items():
        key = whole.removeprefix(f"{account}/")
        if is_beside(key) or not key or key.endswith("/"):  # "folders" that some tools make
            continue
        try:
            place_of(whole)
        except RequestRefused as error:
            bad.append(_ignored(account, key, info, error))
            continue
        sidecar = listed.get(whole + SIDECAR)
        answered = whole + RESULT in listed
        good.append(_seen(account, key, info, sidecar.etag if sidecar else None, answered=answered))
    if len(good) > MAX_OBJECTS or len(listed) >= 3 * MAX_OBJECTS:
        full = QuotaExceeded("inbox", f"only the first {MAX_OBJECTS} objects are looked at", remedy="Remove what is done.")
        last = list(listed.values())[-1]
        bad.append(_ignored(account, last.key.removeprefix(f"{account}/"), last, full))
    return good[:MAX_OBJECTS], bad


def strays(bucket: ObjectStore, accounts: Collection[str]) -> Iterator[InboxView]:
    """Of the first objects of the bucket, those in no account's folder."""
    for info in islice(bucket.list(""), 1000):
        account, _, key = info.key.partition("/")
        if account not in accounts and not info.key.endswith("/"):
            error = RequestRefused("inbox_key", "it is in no account's folder")
            yield _ignored(account[:80] if key else "", key or info.key, info, error)


def views(account: str, objects: Sequence[Seen], *, waiting: Collection[tuple[str, str]] = ()) -> list[InboxView]:
    """How far the account's objects are; `waiting` are those (account and key) that a run waits or works for."""
    with catalog() as session:
        operations = operations_of_keys(session, account=account, kind=KIND, keys={each.version for each in objects})
    return [_view(each, operations.get(each.version), waiting=(account, each.key) in waiting) for each in objects]


def unsettled(seen: Seen, *, now: datetime) -> timedelta:
    """How much longer its sidecar is waited for; nothing where it has one."""
    if seen.sidecar is not None:
        return timedelta(0)
    return min(max(seen.modified + SETTLE - now, timedelta(0)), SETTLE)


def refusal(operation: Operation) -> Mapping[str, str] | None:
    """How its last attempt was refused; None where it was not."""
    found = [step for step in operation.steps if step["name"] == REFUSED and step["attempt"] == operation.attempts]
    return found[-1]["detail"] if found else None


def is_live(operation: Operation) -> bool:
    """Whether a process works on it now."""
    here = load_settings().host
    return is_held(operation, is_alive=lambda it: it.host != here or owner.Process(it.pid, it.started).runs)


def _view(seen: Seen, operation: Operation | None, *, waiting: bool) -> InboxView:
    values = seen.model_dump()
    if operation is None:
        late = unsettled(seen, now=utc_now())
        state = State.UNDER_WAY if waiting else State.WAITING if late else State.DUE
        return InboxView(**values, state=state)
    if operation.state is OperationState.DONE:
        image_id = (operation.result or {}).get("image_id")
        return InboxView(**values, state=State.IMPORTED if seen.answered else State.DUE, image_id=image_id)
    if waiting or is_live(operation):
        return InboxView(**values, state=State.UNDER_WAY)
    return _failed(seen, operation)


def _failed(seen: Seen, operation: Operation) -> InboxView:
    # What a defect says of itself is for the run's log.
    told = {"code": operation.error_code, "message": operation.error_message if operation.error_code != "defect" else None}
    refused = refusal(operation)
    if refused is not None:
        stands = seen.answered and refused.get("sidecar") == seen.sidecar
        return InboxView(**seen.model_dump(), state=State.REFUSED if stands else State.DUE, **told)
    again = operation.updated_at + _pause(operation.attempts)
    state = State.PAUSED if operation.state is OperationState.FAILED and again > utc_now() else State.DUE
    return InboxView(**seen.model_dump(), state=state, **told)


def _pause(attempts: int) -> timedelta:
    """After what may pass by itself: none at first, then twice as long each time."""
    beyond = attempts - PROMPT_ATTEMPTS
    return min(timedelta(minutes=2 ** min(beyond, 10)), LONGEST_PAUSE) if beyond > 0 else timedelta(0)


def _exactly(bucket: ObjectStore, key: str) -> ObjectInfo | None:
    """An object's entry, by a listing that begins with it."""
    return next((info for info in islice(bucket.list(key), 8) if info.key == key), None)


def _seen(account: str, key: str, info: ObjectInfo, sidecar: str | None, *, answered: bool) -> Seen:
    return Seen(
        account=account,
        key=key,
        size=info.size,
        etag=info.etag,
        modified=info.modified,
        sidecar=sidecar,
        answered=answered,
    )


def _ignored(account: str, key: str, info: ObjectInfo, error: Refused) -> InboxView:
    """What no result can be put beside: it is told in the report alone."""
    shown = key[:80].encode("ascii", "backslashreplace").decode()
    values = _seen(account, shown, info, None, answered=False).model_dump()
    return InboxView(**values, state=State.IGNORED, code=error.code, message=error.message)
