"""Scheduled runs that changed nothing, forgotten when they are old. All other operations and their trail are kept.

The sums of what ended (`models.tallies`) stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from models.tables import Audit, Operation
from models.trail import Actor, Change, write_audit
from models.vocabulary import OperationState

SCHEDULED = ("collect", "expire", "expire-exports", "reconcile", "report-capacity", "verify")
"""Kinds of operations that schedules begin again and again, and that nobody continues or asks for by key once they are done."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Operations that are gone, and rows of the trail about nothing but them."""

    operations: int
    rows: int


def forget_runs(session: Session, *, before: datetime, limit: int, by: Actor) -> Forgotten:
    """Remove up to `limit` scheduled operations that were done before that time and that only rows about themselves name.

    One row of the trail says how many went. For the operator's schedule alone.
    """
    ids = _idle(session, before=before, limit=limit)
    if not ids:
        return Forgotten(0, 0)
    about = delete(Audit).where(col(Audit.kind) == "operation", col(Audit.subject_id).in_(ids))
    rows = session.exec(about.execution_options(synchronize_session=False)).rowcount
    gone = session.exec(
        delete(Operation).where(col(Operation.id).in_(ids)).execution_options(synchronize_session=False)
    ).rowcount
    detail = {"operations": gone, "rows": rows, "before": before.isoformat()}
    write_audit(session, by=by, change=Change("history", "operations", by.account, "kept", "forgotten", detail))
    session.flush()
    return Forgotten(gone, rows)


def _idle(session: Session, *, before: datetime, limit: int) -> list[str]:
    """Ids of the oldest such operations."""
    other = aliased(Audit)
    named = exists().where(col(other.operation_id) == col(Operation.id), col(other.subject_id) != col(Operation.id))
    query = select(Operation.id).where(
        col(Operation.finished_at) < before,
        Operation.state == OperationState.DONE,
        col(Operation.kind).in_(SCHEDULED),
        ~named,
    )
    return list(session.exec(query.order_by(col(Operation.finished_at)).limit(limit)).all())
