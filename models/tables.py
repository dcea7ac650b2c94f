"""The catalog's tables. Queries and changes are in the module of each noun; the schema's history is `models.migrations`.

Ids are UUID text, so an id that somebody mistyped is simply not found. Rows of images and ECSs are
never removed: `deleted` is a tombstone.
"""

# No postponed annotations here: SQLModel reads the class inside list[...] from a relationship's annotation.
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Enum, Index, Integer, LargeBinary, MetaData, String, Text, UniqueConstraint
from sqlmodel import Field, Relationship, SQLModel

from models.vocabulary import (
    Architecture,
    BootMode,
    BootProof,
    Consistency,
    Decision,
    DiskKind,
    EcsState,
    ImageState,
    MemberState,
    OperationState,
    Purpose,
    VersionState,
    WithdrawnFor,
)

GIB = 1 << 30


def utc_now() -> datetime:
    """The catalog's clock; every stored time is aware and UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    return str(uuid.uuid4())


def _values(kind: type[StrEnum]) -> list[str]:
    return [word.value for word in kind]


def _word(kind: type[StrEnum]) -> Enum:
    """A column of one vocabulary, stored as its words: a native enumeration could not gain one in a plain migration."""
    return Enum(kind, native_enum=False, create_constraint=False, length=16, values_callable=_values)


SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only where the column is spelled INTEGER."""


WORD = String(64).with_variant(String(64, collation="C"), "postgresql")


class Row(SQLModel):
    """Base of all tables: their own metadata, with constraint names that migrations can refer to."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Account(Row, table=True):
    """Who owns images and ECSs. The name is the identity: it is in object names, flow parameters and shares."""

    name: str = Field(primary_key=True, max_length=63)
    operator: bool = False
    reviewer: bool = False
    max_images: int = 50
    max_creations: int = 40
    max_bytes: int = Field(default=10 << 40, sa_type=BigInteger)
    created_at: datetime = Field(default_factory=utc_now)


class ApiKey(Row, table=True):
    """One API key of an account, of which only the salted hash is kept. One that was rotated out may live on for a while."""

    __tablename__ = "api_key"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    account: str = Field(foreign_key="account.name", max_length=63, index=True)
    salt: bytes = Field(repr=False)
    hash: bytes = Field(repr=False)
    created_at: datetime = Field(default_factory=utc_now)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class Disk(Row, table=True):
    """A disk of an image. `data_bytes` are guest-visible, `stored_bytes` compressed, `new_bytes` first stored by it."""

    image_id: str = Field(primary_key=True, foreign_key="image.id", max_length=36)
    index: int = Field(primary_key=True)
    kind: DiskKind = Field(sa_type=_word(DiskKind))
    virtual_size: int = Field(sa_type=BigInteger)
    digest: str | None = Field(default=None, max_length=64, index=True)
    data_bytes: int = Field(default=0, sa_type=BigInteger)
    stored_bytes: int = Field(default=0, sa_type=BigInteger)
    new_bytes: int = Field(default=0, sa_type=BigInteger)


class Image(Row, table=True):
    """A template. `declared` and `detected` keep both opinions on the guest; os_*, architecture and boot_mode the verdict."""

    __table_args__ = (
        Index("ix_image_owner_public_created_at_id", "owner", "public", "created_at", "id"),
        Index("ix_image_public_created_at_id", "public", "created_at", "id"),
        Index("ix_image_name_created_at_id", "name", "created_at", "id"),
        Index("ix_image_series_owner", "series", "owner"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    name: str = Field(max_length=128)
    state: ImageState = Field(default=ImageState.QUEUED, sa_type=_word(ImageState))
    description: str = Field(default="", max_length=1024)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    properties: dict[str, str] = Field(default_factory=dict, sa_type=JSON)

    public: bool = False
    protected: bool = False
    hidden: bool = False
    deprecated_at: datetime | None = None
    # Of its disks' digests, from activation on: what a share or a listing pins.
    digest: str | None = Field(default=None, max_length=64)
    # The account that revoked it: what an operator revoked its owner cannot bring back.
    revoked_by: str | None = Field(default=None, max_length=63)
    # Marketplace versions that its content descends from: their licence goes with it.
    licences: list[str] = Field(default_factory=list, sa_type=JSON)

    source: str = Field(default="", max_length=2048)
    declared_format: str | None = Field(default=None, max_length=16)
    format: str | None = Field(default=None, max_length=16)
    checksum: str | None = Field(default=None, max_length=80)
    parent_image_id: str | None = Field(default=None, foreign_key="image.id", max_length=36, index=True)
    # No foreign key: ecs refers to image already, and SQLite cannot close the circle after both tables exist.
    source_ecs_id: str | None = Field(default=None, max_length=36, index=True)
    # Of captured images alone: how their disks were read, whether identity was removed, and which schedule they belong to.
    consistency: Consistency | None = Field(default=None, sa_type=_word(Consistency))
    generalized: bool | None = None
    capture_detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    series: str | None = Field(default=None, max_length=128)

    declared: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    detected: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    os_type: str | None = Field(default=None, max_length=32)
    os_distro: str | None = Field(default=None, max_length=64)
    os_version: str | None = Field(default=None, max_length=64)
    architecture: Architecture | None = Field(default=None, sa_type=_word(Architecture))
    boot_mode: BootMode | None = Field(default=None, sa_type=_word(BootMode))
    boot_proof: BootProof = Field(default=BootProof.UNCHECKED, sa_type=_word(BootProof))
    boot_detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    min_disk_gib: int = 0
    min_memory_mib: int = 0

    reserved_bytes: int = Field(default=0, sa_type=BigInteger)
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    deleted_at: datetime | None = None

    disks: list[Disk] = Relationship(sa_relationship_kwargs={"lazy": "selectin", "order_by": "Disk.index"})


class Flavor(Row, table=True):
    """A size of guest. The defaults are seeded by the first migration."""

    name: str = Field(primary_key=True, max_length=63)
    vcpus: int
    memory_mib: int


class EcsDisk(Row, table=True):
    """One overlay of an ECS and the manifest it lies over, which outlives the image it came from; an empty disk has none.

    `checkpoint` names the libvirt checkpoint whose bitmap tells what changed since the content `checkpoint_digest`.
    """

    __tablename__ = "ecs_disk"

    ecs_id: str = Field(primary_key=True, foreign_key="ecs.id", max_length=36)
    index: int = Field(primary_key=True)
    kind: DiskKind = Field(sa_type=_word(DiskKind))
    base_digest: str | None = Field(default=None, max_length=64, index=True)
    base_size: int = Field(default=0, sa_type=BigInteger)
    size_bytes: int = Field(sa_type=BigInteger)
    checkpoint: str | None = Field(default=None, max_length=64)
    checkpoint_digest: str | None = Field(default=None, max_length=64)
    checkpoint_stored: int = Field(default=0, sa_type=BigInteger)
    licences: list[str] = Field(default_factory=list, sa_type=JSON)


class Ecs(Row, table=True):
    """One guest. `standalone` is set once its files need no base any more; `locked_by` is the operation that has it alone."""

    __table_args__ = (
        Index("ix_ecs_owner_created_at_id", "owner", "created_at", "id"),
        Index("ix_ecs_image_id_state", "image_id", "state"),
        Index("ix_ecs_host_state", "host", "state"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    name: str = Field(max_length=128)
    state: EcsState = Field(default=EcsState.BUILDING, sa_type=_word(EcsState))
    image_id: str = Field(foreign_key="image.id", max_length=36)
    host: str = Field(max_length=255)
    flavor: str = Field(foreign_key="flavor.name", max_length=63)
    disk_gib: int
    standalone: bool = False
    locked_by: str | None = Field(default=None, max_length=36)
    accelerator: str | None = Field(default=None, max_length=16)
    seconds_to_ready: float | None = None
    ready_by: BootProof | None = Field(default=None, sa_type=_word(BootProof))
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    deleted_at: datetime | None = None

    disks: list[EcsDisk] = Relationship(sa_relationship_kwargs={"lazy": "selectin", "order_by": "EcsDisk.index"})


class Operation(Row, table=True):
    """One lifecycle run on one subject: the saga log. `lease_token` fences off an owner that was taken over."""

    __table_args__ = (
        UniqueConstraint("account", "kind", "key"),
        Index("ix_operation_state_lease_expires_at", "state", "lease_expires_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    kind: str = Field(max_length=32)
    account: str = Field(foreign_key="account.name", max_length=63)
    key: str = Field(max_length=128)
    fingerprint: str = Field(default="", max_length=64)
    subject_id: str | None = Field(default=None, max_length=36, index=True)
    state: OperationState = Field(default=OperationState.RUNNING, sa_type=_word(OperationState))
    steps: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    attempts: int = 1
    lease_token: str = Field(max_length=36)
    lease_host: str = Field(max_length=255)
    lease_pid: int
    lease_started: str = Field(max_length=32)
    lease_expires_at: datetime
    flow_run_id: str | None = Field(default=None, max_length=36)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    finished_at: datetime | None = None


class Audit(Row, table=True):
    """Who changed what, when and in which run. `owner` is the subject's account: its trail outlives the subject."""

    __table_args__ = (
        Index("ix_audit_owner_id", "owner", "id"),
        Index("ix_audit_subject_id_id", "subject_id", "id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    at: datetime = Field(default_factory=utc_now)
    who: str = Field(max_length=63)
    owner: str = Field(max_length=63)
    kind: str = Field(max_length=16)
    subject_id: str = Field(max_length=63)
    old: str | None = Field(default=None, max_length=64)
    new: str | None = Field(default=None, max_length=64)
    operation_id: str | None = Field(default=None, max_length=36)
    flow_run_id: str | None = Field(default=None, max_length=36)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Member(Row, table=True):
    """One share of an image with one account. `digest` is what was offered: the image is seen while it has that content.

    `image_created_at` is the image's, so that an account's shared images are listed in order from one index.
    """

    __table_args__ = (
        UniqueConstraint("image_id", "account"),
        Index("ix_member_account_state_image", "account", "state", "image_created_at", "image_id"),
        Index("ix_member_expires_at", "expires_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    image_id: str = Field(foreign_key="image.id", max_length=36)
    account: str = Field(foreign_key="account.name", max_length=63)
    owner: str = Field(max_length=63)
    state: MemberState = Field(default=MemberState.PENDING, sa_type=_word(MemberState))
    digest: str = Field(max_length=64)
    image_created_at: datetime
    expires_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class Listing(Row, table=True):
    """A marketplace product of one account. `version_id` is its newest listed version, which is what others see; `listed_at` is
    that one's, None where nothing is listed."""

    __table_args__ = (
        UniqueConstraint("owner", "title"),
        Index("ix_listing_title", "title"),
        Index("ix_listing_listed_at_id", "listed_at", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    title: str = Field(max_length=128)
    # No foreign key: version refers to listing already.
    version_id: str | None = Field(default=None, max_length=36)
    listed_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class Version(Row, table=True):
    """One immutable image of a listing with all that is said of it. Nothing but its state changes once it is submitted.

    `image_created_at` is the image's, as in a share.
    """

    __table_args__ = (
        UniqueConstraint("listing_id", "number"),
        UniqueConstraint("listing_id", "name"),
        Index("ix_version_state_review_until", "state", "review_until"),
        Index("ix_version_owner_created_at", "owner", "created_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    listing_id: str = Field(foreign_key="listing.id", max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    number: int
    name: str = Field(max_length=32)
    state: VersionState = Field(default=VersionState.DRAFT, sa_type=_word(VersionState))
    image_id: str = Field(foreign_key="image.id", max_length=36, index=True)
    image_created_at: datetime
    digest: str = Field(max_length=64)
    summary: str = Field(max_length=255)
    description: str = Field(default="", sa_type=Text)
    categories: list[str] = Field(default_factory=list, sa_type=JSON)
    support_contact: str = Field(max_length=255)
    licence: str = Field(sa_type=Text)
    licence_digest: str = Field(max_length=64)
    logo_png: bytes | None = Field(default=None, sa_type=LargeBinary, repr=False)
    scan_id: str | None = Field(default=None, max_length=36)
    review_run_id: str | None = Field(default=None, max_length=36)
    review_until: datetime | None = None
    decision: Decision | None = Field(default=None, sa_type=_word(Decision))
    reviewer: str | None = Field(default=None, max_length=63)
    note: str = Field(default="", max_length=1024)
    decided_at: datetime | None = None
    withdrawn_for: WithdrawnFor | None = Field(default=None, sa_type=_word(WithdrawnFor))
    withdrawn_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)


class ListingWord(Row, table=True):
    """The search index of what is listed: one row a word or category (`:web`) of a listing."""

    __tablename__ = "listing_word"
    __table_args__ = (Index("ix_listing_word_listing_id_word", "listing_id", "word"),)

    # Begun words are found by a range, which a language's order would not give.
    word: str = Field(primary_key=True, sa_type=WORD)
    listing_id: str = Field(primary_key=True, foreign_key="listing.id", max_length=36)


class Subscription(Row, table=True):
    """An account's agreement to one text of a listing's licence: it covers every version with that text."""

    __table_args__ = (Index("ix_subscription_account_accepted_at", "account", "accepted_at"),)

    account: str = Field(primary_key=True, foreign_key="account.name", max_length=63)
    listing_id: str = Field(primary_key=True, foreign_key="listing.id", max_length=36, index=True)
    licence_digest: str = Field(primary_key=True, max_length=64)
    version_id: str = Field(foreign_key="version.id", max_length=36)
    accepted_at: datetime = Field(default_factory=utc_now)


class DiskScan(Row, table=True):
    """What a scan found on a disk of this content by these rules, whichever image holds it."""

    __tablename__ = "disk_scan"

    digest: str = Field(primary_key=True, max_length=64)
    rules: str = Field(primary_key=True, max_length=16)
    content: dict[str, Any] = Field(sa_type=JSON)
    at: datetime = Field(default_factory=utc_now)


class Scan(Row, table=True):
    """One passage through the publish gate: the verdict of a day, its findings, the report and the package list."""

    __table_args__ = (Index("ix_scan_image_id_at", "image_id", "at"),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    image_id: str = Field(foreign_key="image.id", max_length=36)
    digest: str = Field(max_length=64)
    owner: str = Field(max_length=63)
    purpose: Purpose = Field(sa_type=_word(Purpose))
    passed: bool
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    report: str = Field(default="", sa_type=Text)
    sbom: str = Field(default="", sa_type=Text)
    at: datetime = Field(default_factory=utc_now)
