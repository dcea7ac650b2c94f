"""Hosts: the machines that run guests, with what each last reported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "host",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("uri", sa.String(255), nullable=False),
        sa.Column("pool", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("available_mib", sa.Integer(), nullable=False),
        sa.Column("accelerator", sa.String(16), nullable=True),
        sa.Column("cached", sa.JSON(), nullable=False),
        sa.Column("cache_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_host"),
    )


def downgrade() -> None:
    op.drop_table("host")
