"""Captures: what an image was captured from and how, disks without a base, checkpoints, and the lock of an ECS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BASE_SIZES = """
    UPDATE ecs_disk SET base_size = COALESCE((
        SELECT disk.virtual_size FROM disk JOIN ecs ON ecs.image_id = disk.image_id
        WHERE ecs.id = ecs_disk.ecs_id AND disk."index" = ecs_disk."index"
    ), size_bytes)
"""


def upgrade() -> None:
    with op.batch_alter_table("image") as image:
        image.add_column(sa.Column("consistency", sa.String(16), nullable=True))
        image.add_column(sa.Column("generalized", sa.Boolean(), nullable=True))
        image.add_column(sa.Column("capture_detail", sa.JSON(), nullable=False, server_default="{}"))
        image.add_column(sa.Column("series", sa.String(128), nullable=True))
        image.create_index("ix_image_series_owner", ["series", "owner"])
    with op.batch_alter_table("ecs") as ecs:
        ecs.add_column(sa.Column("locked_by", sa.String(36), nullable=True))
    with op.batch_alter_table("ecs_disk") as disk:
        disk.alter_column("base_digest", existing_type=sa.String(64), nullable=True)
        disk.add_column(sa.Column("base_size", sa.BigInteger(), nullable=False, server_default="0"))
        disk.add_column(sa.Column("checkpoint", sa.String(64), nullable=True))
        disk.add_column(sa.Column("checkpoint_digest", sa.String(64), nullable=True))
        disk.add_column(sa.Column("checkpoint_stored", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_BASE_SIZES)


def downgrade() -> None:
    with op.batch_alter_table("ecs_disk") as disk:
        for column in ("checkpoint_stored", "checkpoint_digest", "checkpoint", "base_size"):
            disk.drop_column(column)
        disk.alter_column("base_digest", existing_type=sa.String(64), nullable=False)
    with op.batch_alter_table("ecs") as ecs:
        ecs.drop_column("locked_by")
    with op.batch_alter_table("image") as image:
        image.drop_index("ix_image_series_owner")
        for column in ("series", "capture_detail", "generalized", "consistency"):
            image.drop_column(column)
