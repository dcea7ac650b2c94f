"""Accounts with several keys and the reviewer role, content digests, licences, shares and the marketplace."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WORD = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
TABLES = ("scan", "disk_scan", "subscription", "listing_word", "version", "listing", "member", "api_key")


def upgrade() -> None:
    _create_keys()
    _change_columns()
    _create_member()
    _create_market()
    _create_scans()
    _fill_digests()


def downgrade() -> None:
    with op.batch_alter_table("account") as account:
        account.add_column(sa.Column("key_salt", sa.LargeBinary(), nullable=False, server_default=""))
        account.add_column(sa.Column("key_hash", sa.LargeBinary(), nullable=False, server_default=""))
        account.add_column(sa.Column("key_created_at", sa.DateTime(timezone=True), nullable=True))
        account.drop_column("reviewer")
    with op.batch_alter_table("image") as image:
        image.drop_index("ix_image_name_created_at_id")
        image.drop_index("ix_image_owner_public_created_at_id")
        image.create_index("ix_image_owner_created_at_id", ["owner", "created_at", "id"])
        image.drop_index("ix_image_public_created_at_id")
        image.create_index("ix_image_public_created_at", ["public", "created_at"])
        image.drop_column("digest")
        image.drop_column("revoked_by")
        image.drop_column("licences")
    with op.batch_alter_table("ecs_disk") as disk:
        disk.drop_column("licences")
    for table in TABLES:
        op.drop_table(table)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, length: int | None = None, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length) if length else sa.Text(), nullable=nullable)


def _refers(table: str, column: str, target: str, key: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.{key}"], name=f"fk_{table}_{column}_{target}")


def _create_keys() -> None:
    table = op.create_table(
        "api_key",
        _text("id", 36),
        _text("account", 63),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("revoked_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        _refers("api_key", "account", "account", "name"),
    )
    op.create_index("ix_api_key_account", "api_key", ["account"])
    account = sa.table(
        "account",
        sa.column("name", sa.String),
        sa.column("key_salt", sa.LargeBinary),
        sa.column("key_hash", sa.LargeBinary),
        sa.column("key_created_at", sa.DateTime(timezone=True)),
    )
    query = sa.select(account.c.name, account.c.key_salt, account.c.key_hash, account.c.key_created_at)
    names = ("account", "salt", "hash", "created_at")
    rows = [dict(zip(names, row, strict=True), id=str(uuid.uuid4())) for row in op.get_bind().execute(query)]
    if rows:
        op.bulk_insert(table, rows)


def _change_columns() -> None:
    with op.batch_alter_table("account") as account:
        account.add_column(sa.Column("reviewer", sa.Boolean(), nullable=False, server_default=sa.false()))
        for column in ("key_salt", "key_hash", "key_created_at"):
            account.drop_column(column)
    op.execute("UPDATE account SET reviewer = operator")
    with op.batch_alter_table("image") as image:
        image.add_column(_text("digest", 64, nullable=True))
        image.add_column(_text("revoked_by", 63, nullable=True))
        image.add_column(sa.Column("licences", sa.JSON(), nullable=False, server_default="[]"))
        image.drop_index("ix_image_public_created_at")
        image.create_index("ix_image_public_created_at_id", ["public", "created_at", "id"])
        image.drop_index("ix_image_owner_created_at_id")
        image.create_index("ix_image_owner_public_created_at_id", ["owner", "public", "created_at", "id"])
        image.create_index("ix_image_name_created_at_id", ["name", "created_at", "id"])
    with op.batch_alter_table("ecs_disk") as disk:
        disk.add_column(sa.Column("licences", sa.JSON(), nullable=False, server_default="[]"))


def _create_member() -> None:
    op.create_table(
        "member",
        _text("id", 36),
        _text("image_id", 36),
        _text("account", 63),
        _text("owner", 63),
        _text("state", 16),
        _text("digest", 64),
        _time("image_created_at"),
        _time("expires_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_member"),
        sa.UniqueConstraint("image_id", "account", name="uq_member_image_id_account"),
        _refers("member", "image_id", "image", "id"),
        _refers("member", "account", "account", "name"),
    )
    op.create_index("ix_member_account_state_image", "member", ["account", "state", "image_created_at", "image_id"])
    op.create_index("ix_member_expires_at", "member", ["expires_at"])


def _create_market() -> None:
    op.create_table(
        "listing",
        _text("id", 36),
        _text("owner", 63),
        _text("title", 128),
        _text("version_id", 36, nullable=True),
        _time("listed_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_listing"),
        sa.UniqueConstraint("owner", "title", name="uq_listing_owner_title"),
        _refers("listing", "owner", "account", "name"),
    )
    op.create_index("ix_listing_title", "listing", ["title"])
    op.create_index("ix_listing_listed_at_id", "listing", ["listed_at", "id"])
    _create_version()
    op.create_table(
        "listing_word",
        sa.Column("word", WORD, nullable=False),
        _text("listing_id", 36),
        sa.PrimaryKeyConstraint("word", "listing_id", name="pk_listing_word"),
        _refers("listing_word", "listing_id", "listing", "id"),
    )
    op.create_index("ix_listing_word_listing_id_word", "listing_word", ["listing_id", "word"])
    op.create_table(
        "subscription",
        _text("account", 63),
        _text("listing_id", 36),
        _text("licence_digest", 64),
        _text("version_id", 36),
        _time("accepted_at"),
        sa.PrimaryKeyConstraint("account", "listing_id", "licence_digest", name="pk_subscription"),
        _refers("subscription", "account", "account", "name"),
        _refers("subscription", "listing_id", "listing", "id"),
        _refers("subscription", "version_id", "version", "id"),
    )
    op.create_index("ix_subscription_listing_id", "subscription", ["listing_id"])
    op.create_index("ix_subscription_account_accepted_at", "subscription", ["account", "accepted_at"])


def _create_version() -> None:
    op.create_table(
        "version",
        _text("id", 36),
        _text("listing_id", 36),
        _text("owner", 63),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("name", 32),
        _text("state", 16),
        _text("image_id", 36),
        _time("image_created_at"),
        _text("digest", 64),
        _text("summary", 255),
        _text("description"),
        sa.Column("categories", sa.JSON(), nullable=False),
        _text("support_contact", 255),
        _text("licence"),
        _text("licence_digest", 64),
        sa.Column("logo_png", sa.LargeBinary(), nullable=True),
        _text("scan_id", 36, nullable=True),
        _text("review_run_id", 36, nullable=True),
        _time("review_until", nullable=True),
        _text("decision", 16, nullable=True),
        _text("reviewer", 63, nullable=True),
        _text("note", 1024),
        _time("decided_at", nullable=True),
        _text("withdrawn_for", 16, nullable=True),
        _time("withdrawn_at", nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name="pk_version"),
        sa.UniqueConstraint("listing_id", "number", name="uq_version_listing_id_number"),
        sa.UniqueConstraint("listing_id", "name", name="uq_version_listing_id_name"),
        _refers("version", "listing_id", "listing", "id"),
        _refers("version", "owner", "account", "name"),
        _refers("version", "image_id", "image", "id"),
    )
    op.create_index("ix_version_image_id", "version", ["image_id"])
    op.create_index("ix_version_state_review_until", "version", ["state", "review_until"])
    op.create_index("ix_version_owner_created_at", "version", ["owner", "created_at"])


def _create_scans() -> None:
    op.create_table(
        "disk_scan",
        _text("digest", 64),
        _text("rules", 16),
        sa.Column("content", sa.JSON(), nullable=False),
        _time("at"),
        sa.PrimaryKeyConstraint("digest", "rules", name="pk_disk_scan"),
    )
    op.create_table(
        "scan",
        _text("id", 36),
        _text("image_id", 36),
        _text("digest", 64),
        _text("owner", 63),
        _text("purpose", 16),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        _text("report"),
        _text("sbom"),
        _time("at"),
        sa.PrimaryKeyConstraint("id", name="pk_scan"),
        _refers("scan", "image_id", "image", "id"),
    )
    op.create_index("ix_scan_image_id_at", "scan", ["image_id", "at"])


def _fill_digests() -> None:
    """Images that are active have a content digest from activation on; these were activated before there was one."""
    bind = op.get_bind()
    disks = bind.execute(
        sa.text(
            'SELECT disk.image_id, disk."index", disk.kind, disk.digest FROM disk JOIN image ON image.id = disk.image_id '
            "WHERE image.state IN ('active', 'deactivated') ORDER BY disk.image_id, disk.\"index\""
        )
    )
    contents: dict[str, list[list[object]]] = {}
    for image_id, index, kind, digest in disks:
        contents.setdefault(image_id, []).append([index, kind, digest])
    for image_id, content in contents.items():
        digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
        bind.execute(sa.text("UPDATE image SET digest = :digest WHERE id = :id"), {"digest": digest, "id": image_id})
