"""The first schema: account, flavor (with its defaults), image, disk, ecs, ecs_disk, operation, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

FLAVORS = (("tiny", 1, 256), ("small", 1, 1024), ("medium", 2, 4096), ("large", 4, 8192), ("xlarge", 8, 16384))


def upgrade() -> None:
    _create_account()
    _create_flavor()
    _create_image()
    _create_disk()
    _create_ecs()
    _create_ecs_disk()
    _create_operation()
    _create_audit()


def downgrade() -> None:
    for table in ("audit", "operation", "ecs_disk", "ecs", "disk", "image", "flavor", "account"):
        op.drop_table(table)


def _create_account() -> None:
    op.create_table(
        "account",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("key_salt", sa.LargeBinary(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("max_images", sa.Integer(), nullable=False),
        sa.Column("max_creations", sa.Integer(), nullable=False),
        sa.Column("max_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_account"),
    )


def _create_flavor() -> None:
    table = op.create_table(
        "flavor",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_flavor"),
    )
    rows = [{"name": name, "vcpus": vcpus, "memory_mib": memory} for name, vcpus, memory in FLAVORS]
    op.bulk_insert(table, rows)


def _create_image() -> None:
    op.create_table(
        "image",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("description", sa.String(1024), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("deprecated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source", sa.String(2048), nullable=False),
        sa.Column("declared_format", sa.String(16), nullable=True),
        sa.Column("format", sa.String(16), nullable=True),
        sa.Column("checksum", sa.String(80), nullable=True),
        sa.Column("parent_image_id", sa.String(36), nullable=True),
        sa.Column("source_ecs_id", sa.String(36), nullable=True),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.Column("detected", sa.JSON(), nullable=False),
        sa.Column("os_type", sa.String(32), nullable=True),
        sa.Column("os_distro", sa.String(64), nullable=True),
        sa.Column("os_version", sa.String(64), nullable=True),
        sa.Column("architecture", sa.String(16), nullable=True),
        sa.Column("boot_mode", sa.String(16), nullable=True),
        sa.Column("boot_proof", sa.String(16), nullable=False),
        sa.Column("boot_detail", sa.JSON(), nullable=False),
        sa.Column("min_disk_gib", sa.Integer(), nullable=False),
        sa.Column("min_memory_mib", sa.Integer(), nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner"], ["account.name"], name="fk_image_owner_account"),
        sa.ForeignKeyConstraint(["parent_image_id"], ["image.id"], name="fk_image_parent_image_id_image"),
        sa.PrimaryKeyConstraint("id", name="pk_image"),
    )
    op.create_index("ix_image_owner_created_at_id", "image", ["owner", "created_at", "id"])
    op.create_index("ix_image_parent_image_id", "image", ["parent_image_id"])
    op.create_index("ix_image_public_created_at", "image", ["public", "created_at"])
    op.create_index("ix_image_source_ecs_id", "image", ["source_ecs_id"])


def _create_disk() -> None:
    op.create_table(
        "disk",
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("virtual_size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=True),
        sa.Column("data_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("new_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_disk_image_id_image"),
        sa.PrimaryKeyConstraint("image_id", "index", name="pk_disk"),
    )
    op.create_index("ix_disk_digest", "disk", ["digest"])


def _create_ecs() -> None:
    op.create_table(
        "ecs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("flavor", sa.String(63), nullable=False),
        sa.Column("disk_gib", sa.Integer(), nullable=False),
        sa.Column("standalone", sa.Boolean(), nullable=False),
        sa.Column("accelerator", sa.String(16), nullable=True),
        sa.Column("seconds_to_ready", sa.Float(), nullable=True),
        sa.Column("ready_by", sa.String(16), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["flavor"], ["flavor.name"], name="fk_ecs_flavor_flavor"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_ecs_image_id_image"),
        sa.ForeignKeyConstraint(["owner"], ["account.name"], name="fk_ecs_owner_account"),
        sa.PrimaryKeyConstraint("id", name="pk_ecs"),
    )
    op.create_index("ix_ecs_host_state", "ecs", ["host", "state"])
    op.create_index("ix_ecs_image_id_state", "ecs", ["image_id", "state"])
    op.create_index("ix_ecs_owner_created_at_id", "ecs", ["owner", "created_at", "id"])


def _create_ecs_disk() -> None:
    op.create_table(
        "ecs_disk",
        sa.Column("ecs_id", sa.String(36), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("base_digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["ecs_id"], ["ecs.id"], name="fk_ecs_disk_ecs_id_ecs"),
        sa.PrimaryKeyConstraint("ecs_id", "index", name="pk_ecs_disk"),
    )
    op.create_index("ix_ecs_disk_base_digest", "ecs_disk", ["base_digest"])


def _create_operation() -> None:
    op.create_table(
        "operation",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(36), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(36), nullable=False),
        sa.Column("lease_host", sa.String(255), nullable=False),
        sa.Column("lease_pid", sa.Integer(), nullable=False),
        sa.Column("lease_started", sa.String(32), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("flow_run_id", sa.String(36), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error_code", sa.String(64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name="fk_operation_account_account"),
        sa.PrimaryKeyConstraint("id", name="pk_operation"),
        sa.UniqueConstraint("account", "kind", "key", name="uq_operation_account_kind_key"),
    )
    op.create_index("ix_operation_state_lease_expires_at", "operation", ["state", "lease_expires_at"])
    op.create_index("ix_operation_subject_id", "operation", ["subject_id"])


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(63), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject_id", sa.String(63), nullable=False),
        sa.Column("old", sa.String(64), nullable=True),
        sa.Column("new", sa.String(64), nullable=True),
        sa.Column("operation_id", sa.String(36), nullable=True),
        sa.Column("flow_run_id", sa.String(36), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_owner_id", "audit", ["owner", "id"])
    op.create_index("ix_audit_subject_id_id", "audit", ["subject_id", "id"])
