"""Sums of what attempts of operations came to, when an attempt began, and the indexes that reports and metrics read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BOUNDS = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)
BYTES = ("data_bytes", "stored_bytes", "new_bytes")
SUMS = ", ".join(f"COALESCE(SUM(disk.{name}), 0)" for name in BYTES)


def upgrade() -> None:
    with op.batch_alter_table("operation") as operation:
        operation.add_column(sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True))
        operation.create_index("ix_operation_finished_at", ["finished_at"])
    with op.batch_alter_table("image") as image:
        image.create_index("ix_image_state_public_id", ["state", "public", "id"])
    op.create_index("ix_audit_operation_id", "audit", ["operation_id"])
    tally = op.create_table(
        "tally",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("spread", sa.JSON(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in BYTES),
        sa.PrimaryKeyConstraint("kind", "outcome", name="pk_tally"),
    )
    op.bulk_insert(tally, list(_counted().values()))


def downgrade() -> None:
    op.drop_table("tally")
    op.drop_index("ix_audit_operation_id", "audit")
    with op.batch_alter_table("image") as image:
        image.drop_index("ix_image_state_public_id")
    with op.batch_alter_table("operation") as operation:
        operation.drop_index("ix_operation_finished_at")
        operation.drop_column("begun_at")


def _counted() -> dict[tuple[str, str], dict[str, Any]]:
    """What is known of operations that ended before anybody counted: the last attempt of each."""
    tallies: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, state, seconds in _ended():
        empty = {"ended": 0, "seconds": 0.0, "spread": [0] * (len(BOUNDS) + 1), **dict.fromkeys(BYTES, 0)}
        tally = tallies.setdefault((kind, state), {"kind": kind, "outcome": state, **empty})
        tally["ended"] += 1
        tally["seconds"] += seconds
        tally["spread"][bisect_left(BOUNDS, seconds)] += 1
    for kind, *sums in _bytes():
        tallies[kind, "done"] |= dict(zip(BYTES, map(int, sums), strict=True))
    return tallies


def _ended() -> Iterator[tuple[str, str, float]]:
    table = sa.table("operation", *(sa.column(name) for name in ("kind", "state")), *map(_time, ("created_at", "finished_at")))
    query = sa.select(table.c.kind, table.c.state, table.c.created_at, table.c.finished_at)
    for kind, state, created_at, finished_at in op.get_bind().execute(query.where(table.c.state.in_(("done", "failed")))):
        yield kind, state, _seconds(created_at, finished_at)


def _time(name: str) -> sa.ColumnClause[Any]:
    return sa.column(name, sa.DateTime(timezone=True))


def _seconds(begun: datetime, ended: datetime | None) -> float:
    return max(0.0, (ended - begun).total_seconds()) if ended else 0.0


def _bytes() -> Iterator[Any]:
    yield from op.get_bind().execute(
        sa.text(
            f"SELECT operation.kind, {SUMS} FROM operation JOIN disk ON disk.image_id = operation.subject_id "  # noqa: S608  # names of our own
            "WHERE operation.state = 'done' AND operation.kind IN ('import', 'capture') GROUP BY operation.kind"
        )
    )
