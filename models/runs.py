"""Operations that ended, one by one, and how long they took, for an operator's report. Sums are `models.tallies`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from models.tables import Operation
from models.vocabulary import OperationState

MOST = 100_000
"""Operations that a report looks at, newest first."""


@dataclass(frozen=True, slots=True)
class Run:
    """An operation's latest attempt; `ended` is None where it has not ended."""

    id: str
    kind: str
    account: str
    state: OperationState
    flow_run_id: str | None
    begun: datetime
    ended: datetime | None

    @property
    def seconds(self) -> float:
        """How long it took, zero while it runs."""
        return max(0.0, (self.ended - self.begun).total_seconds()) if self.ended else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the done operations of one kind took, in seconds."""

    kind: str
    runs: int
    median: float
    p95: float
    slowest: float


def done_runs(session: Session, *, since: datetime) -> list[Run]:
    """Operations that were done after `since`, newest first, at most MOST."""
    query = _columns().where(col(Operation.finished_at) > since, Operation.state == OperationState.DONE)
    return _runs(session, query.order_by(col(Operation.finished_at).desc()).limit(MOST))


def oldest_unfinished(session: Session, *, limit: int) -> list[Run]:
    """Operations that nobody has ended, the oldest first."""
    query = _columns().where(Operation.state == OperationState.RUNNING)
    return _runs(session, query.order_by(col(Operation.created_at)).limit(limit))


def paces(runs: Sequence[Run]) -> list[Pace]:
    """One for every kind, the slowest kind first. The 95th percentile is the least time that 95 of 100 runs stay within."""
    taken: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        taken[run.kind].append(run.seconds)
    found = [_pace(kind, sorted(seconds)) for kind, seconds in taken.items()]
    return sorted(found, key=lambda pace: (-pace.p95, pace.kind))


def _pace(kind: str, seconds: list[float]) -> Pace:
    rank = -(-95 * len(seconds) // 100)
    return Pace(kind, len(seconds), median(seconds), seconds[rank - 1], seconds[-1])


def _columns() -> Any:
    begun = func.coalesce(Operation.begun_at, Operation.created_at)
    columns: tuple[Any, ...] = (
        Operation.id,
        Operation.kind,
        Operation.account,
        Operation.state,
        Operation.flow_run_id,
        begun,
        Operation.finished_at,
    )
    return select(*columns)


def _runs(session: Session, query: Any) -> list[Run]:
    return [Run(*row) for row in session.exec(query).all()]
