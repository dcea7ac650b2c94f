"""The audit trail: one row for everything that changed a subject. `models.states` writes the transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from models.tables import Audit


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change, and in which run."""

    account: str
    operation_id: str | None = None
    flow_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one subject; `owner` is the account the subject belongs to."""

    kind: str
    subject_id: str
    owner: str
    old: str | None = None
    new: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


def write_audit(session: Session, *, by: Actor, change: Change) -> None:
    """Add the row to the caller's transaction, so that a change and its trail stand or fall together."""
    session.add(
        Audit(
            who=by.account,
            owner=change.owner,
            kind=change.kind,
            subject_id=change.subject_id,
            old=change.old,
            new=change.new,
            operation_id=by.operation_id,
            flow_run_id=by.flow_run_id,
            detail=dict(change.detail),
        )
    )


def list_audit(
    session: Session, *, account: str, subject_id: str | None = None, before: int | None = None, limit: int = 100
) -> Sequence[Audit]:
    """The trail of what the account owns or owned, newest first; `before` is the id of the last row already seen."""
    query = select(Audit).where(Audit.owner == account).order_by(col(Audit.id).desc()).limit(limit)
    if subject_id is not None:
        query = query.where(Audit.subject_id == subject_id)
    if before is not None:
        query = query.where(col(Audit.id) < before)
    return session.exec(query).all()
