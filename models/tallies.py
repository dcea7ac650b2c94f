"""Sums of what attempts of operations came to: counters that only grow, whatever becomes of operations and images later.

`models.operations` adds to them in the transaction that ends an attempt; `tasks.metrics` shows them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.tables import Disk, Operation, Tally, utc_now
from models.vocabulary import Outcome

BOUNDS = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
"""Seconds up to which attempts are counted together; a change needs a migration of what was counted."""
IMAGE_MAKERS = ("import", "capture")
"""Kinds of operations whose subject is an image that they made."""


def count_attempt(session: Session, *, operation: Operation, outcome: Outcome) -> None:
    """Add the attempt that ends now. A lost one counts up to the last sign of its process."""
    tally = _held(session, kind=operation.kind, outcome=outcome)
    ended_at = operation.updated_at if outcome is Outcome.LOST else utc_now()
    seconds = max(0.0, (ended_at - (operation.begun_at or operation.created_at)).total_seconds())
    spread = list(tally.spread)  # a new list: SQLAlchemy does not see changes inside a JSON value
    spread[bisect_left(BOUNDS, seconds)] += 1
    tally.spread = spread
    tally.ended += 1
    tally.seconds += seconds
    if outcome is Outcome.DONE and operation.kind in IMAGE_MAKERS:
        _add_bytes(session, tally, image_id=operation.subject_id)
    session.add(tally)
    session.flush()


def list_tallies(session: Session) -> Sequence[Tally]:
    """All of them, by kind and outcome: for an operator alone."""
    return session.exec(select(Tally).order_by(col(Tally.kind), col(Tally.outcome))).all()


def _held(session: Session, *, kind: str, outcome: Outcome) -> Tally:
    """The row, locked until the caller's transaction ends; a racing first insert is waited for."""
    query = select(Tally).where(Tally.kind == kind, Tally.outcome == outcome).with_for_update()
    query = query.execution_options(populate_existing=True)
    found = session.exec(query).first()
    if found is None:
        try:
            with session.begin_nested():
                session.add(Tally(kind=kind, outcome=outcome, spread=[0] * (len(BOUNDS) + 1)))
        except IntegrityError:
            pass  # it is there now
        found = session.exec(query).one()
    return found


def _add_bytes(session: Session, tally: Tally, *, image_id: str | None) -> None:
    sums = select(func.sum(Disk.data_bytes), func.sum(Disk.stored_bytes), func.sum(Disk.new_bytes))
    data, stored, new = session.exec(sums.where(Disk.image_id == image_id)).one()
    tally.data_bytes += int(data or 0)
    tally.stored_bytes += int(stored or 0)
    tally.new_bytes += int(new or 0)
