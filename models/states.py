"""Which state may follow which, and the one function that moves a row from one to the next.

Operations move through `models.operations`, which fences them by lease as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col

from models.exceptions import TransitionRefused
from models.market_tables import Member, Version
from models.tables import Ecs, Image, Operation, utc_now
from models.trail import Actor, Change, write_audit
from models.vocabulary import EcsState, ImageState, MemberState, OperationState, VersionState

Subject = Image | Ecs | Operation | Member | Version
Table = Mapping[StrEnum, frozenset[StrEnum]]

# An unfinished image goes back to queued when another process takes its operation over: each attempt walks the same way.
IMAGE_TRANSITIONS: Table = {
    ImageState.QUEUED: frozenset({ImageState.TRANSFERRING, ImageState.ERROR, ImageState.DELETED}),
    ImageState.TRANSFERRING: frozenset({ImageState.QUEUED, ImageState.VERIFYING, ImageState.ERROR, ImageState.DELETED}),
    ImageState.VERIFYING: frozenset({ImageState.QUEUED, ImageState.ACTIVE, ImageState.ERROR, ImageState.DELETED}),
    ImageState.ACTIVE: frozenset({ImageState.DEACTIVATED, ImageState.DELETED}),
    ImageState.DEACTIVATED: frozenset({ImageState.ACTIVE, ImageState.DELETED}),
    ImageState.ERROR: frozenset({ImageState.QUEUED, ImageState.DELETED}),
    ImageState.DELETED: frozenset(),
}

# An ECS in error is built anew, or found running or off by whoever looks at its domain.
ECS_TRANSITIONS: Table = {
    EcsState.BUILDING: frozenset({EcsState.ACTIVE, EcsState.ERROR, EcsState.DELETED}),
    EcsState.ACTIVE: frozenset({EcsState.STOPPED, EcsState.ERROR, EcsState.DELETED}),
    EcsState.STOPPED: frozenset({EcsState.ACTIVE, EcsState.ERROR, EcsState.DELETED}),
    EcsState.ERROR: frozenset({EcsState.BUILDING, EcsState.ACTIVE, EcsState.STOPPED, EcsState.DELETED}),
    EcsState.DELETED: frozenset(),
}

OPERATION_TRANSITIONS: Table = {
    OperationState.RUNNING: frozenset({OperationState.DONE, OperationState.FAILED}),
    OperationState.FAILED: frozenset({OperationState.RUNNING}),
    OperationState.DONE: frozenset(),
}

# A share that was accepted may be rejected later, and the other way round; a share that ends is no row any more.
MEMBER_TRANSITIONS: Table = {
    MemberState.PENDING: frozenset({MemberState.ACCEPTED, MemberState.REJECTED}),
    MemberState.ACCEPTED: frozenset({MemberState.REJECTED}),
    MemberState.REJECTED: frozenset({MemberState.ACCEPTED}),
}

# A rejected version stays with its report; the next attempt is the next version.
VERSION_TRANSITIONS: Table = {
    VersionState.DRAFT: frozenset({VersionState.SCANNING, VersionState.REJECTED, VersionState.WITHDRAWN}),
    VersionState.SCANNING: frozenset({VersionState.IN_REVIEW, VersionState.REJECTED, VersionState.WITHDRAWN}),
    VersionState.IN_REVIEW: frozenset({VersionState.LISTED, VersionState.REJECTED, VersionState.WITHDRAWN}),
    VersionState.LISTED: frozenset({VersionState.WITHDRAWN}),
    VersionState.REJECTED: frozenset(),
    VersionState.WITHDRAWN: frozenset(),
}

TRANSITIONS: Mapping[str, Table] = {
    "image": IMAGE_TRANSITIONS,
    "ecs": ECS_TRANSITIONS,
    "operation": OPERATION_TRANSITIONS,
    "member": MEMBER_TRANSITIONS,
    "version": VERSION_TRANSITIONS,
}


def transition(session: Session, *, subject: Subject, new: StrEnum, by: Actor, values: Mapping[str, Any] | None = None) -> None:
    """Move the row from the state the caller saw to `new`, set `values` with it, and leave an audit row.

    Compare-and-set: raises TransitionRefused when the table forbids it or when another transaction moved the row first.
    """
    kind, old = type(subject).__name__.lower(), subject.state
    if new not in TRANSITIONS[kind][old]:
        raise TransitionRefused(kind, subject.id, old, new)
    _compare_and_set(session, subject=subject, new=new, values=values or {})
    owner = subject.account if isinstance(subject, Operation) else subject.owner
    code = getattr(subject, "error_code", None)
    detail = {"error_code": code} if code else {}
    write_audit(session, by=by, change=Change(kind, subject.id, owner, old, new, detail))


def _compare_and_set(session: Session, *, subject: Subject, new: StrEnum, values: Mapping[str, Any]) -> None:
    table, old = type(subject), subject.state
    moved = session.exec(
        update(table)
        .where(col(table.id) == subject.id, col(table.state) == old)
        .values(state=new, updated_at=utc_now(), **values)
        .execution_options(synchronize_session=False)
    )
    if moved.rowcount != 1:
        raise TransitionRefused(table.__name__.lower(), subject.id, old, new)
    session.refresh(subject)
