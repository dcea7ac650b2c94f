"""The object store: what a garbage collector and the writers of disks tell each other, and what was found damaged."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    gate = op.create_table(
        "store_gate",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("catalog_id", sa.String(36), nullable=False),
        sa.Column("verified_next", sa.Integer(), nullable=False),
        sa.Column("cycle_began_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cycle_ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_store_gate"),
    )
    op.bulk_insert(gate, [{"id": 1, "epoch": 0, "catalog_id": str(uuid.uuid4()), "verified_next": 0}])
    op.create_table(
        "store_writer",
        sa.Column("operation_id", sa.String(36), nullable=False),
        sa.Column("token", sa.String(36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"], name="fk_store_writer_operation_id_operation"),
        sa.PrimaryKeyConstraint("operation_id", name="pk_store_writer"),
    )
    op.create_table(
        "held_disk",
        sa.Column("operation_id", sa.String(36), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"], name="fk_held_disk_operation_id_operation"),
        sa.PrimaryKeyConstraint("operation_id", "digest", name="pk_held_disk"),
    )
    op.create_table(
        "condemned_object",
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("collector", sa.String(36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_condemned_object"),
    )
    op.create_index("ix_condemned_object_fate_epoch", "condemned_object", ["fate", "epoch"])
    op.create_table(
        "damaged_object",
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_damaged_object"),
    )


def downgrade() -> None:
    for table in ("damaged_object", "condemned_object", "held_disk", "store_writer", "store_gate"):
        op.drop_table(table)
