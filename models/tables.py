"""The catalog's tables but those of shares and the marketplace, which are `models.market_tables`.

Queries and changes are in the module of each noun; the schema's history is `models.migrations`.

Ids are UUID text, so an id that somebody mistyped is simply not found. Rows of images and ECSs are
never removed: `deleted` is a tombstone.
"""

# No postponed annotations here: SQLModel reads the class inside list[...] from a relationship's annotation.
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Text, UniqueConstraint
from sqlmodel import Field, Relationship

from models.rows import GIB as GIB
from models.rows import SERIAL, word_column
from models.rows import Row as Row
from models.rows import new_id as new_id
from models.rows import utc_now as utc_now
from models.vocabulary import (
    Architecture,
    BootMode,
    BootProof,
    Consistency,
    DiskKind,
    EcsState,
    ImageState,
    OperationState,
    Outcome,
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
    kind: DiskKind = Field(sa_type=word_column(DiskKind))
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
        Index("ix_image_state_public_id", "state", "public", "id"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    owner: str = Field(foreign_key="account.name", max_length=63)
    name: str = Field(max_length=128)
    state: ImageState = Field(default=ImageState.QUEUED, sa_type=word_column(ImageState))
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
    consistency: Consistency | None = Field(default=None, sa_type=word_column(Consistency))
    generalized: bool | None = None
    capture_detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    series: str | None = Field(default=None, max_length=128)

    declared: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    detected: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    os_type: str | None = Field(default=None, max_length=32)
    os_distro: str | None = Field(default=None, max_length=64)
    os_version: str | None = Field(default=None, max_length=64)
    architecture: Architecture | None = Field(default=None, sa_type=word_column(Architecture))
    boot_mode: BootMode | None = Field(default=None, sa_type=word_column(BootMode))
    boot_proof: BootProof = Field(default=BootProof.UNCHECKED, sa_type=word_column(BootProof))
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
    kind: DiskKind = Field(sa_type=word_column(DiskKind))
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
    state: EcsState = Field(default=EcsState.BUILDING, sa_type=word_column(EcsState))
    image_id: str = Field(foreign_key="image.id", max_length=36)
    host: str = Field(max_length=255)
    flavor: str = Field(foreign_key="flavor.name", max_length=63)
    disk_gib: int
    standalone: bool = False
    locked_by: str | None = Field(default=None, max_length=36)
    accelerator: str | None = Field(default=None, max_length=16)
    seconds_to_ready: float | None = None
    ready_by: BootProof | None = Field(default=None, sa_type=word_column(BootProof))
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
    deleted_at: datetime | None = None

    disks: list[EcsDisk] = Relationship(sa_relationship_kwargs={"lazy": "selectin", "order_by": "EcsDisk.index"})


class Operation(Row, table=True):
    """One lifecycle run on one subject: the saga log. `lease_token` fences off an owner that was taken over.

    `begun_at` is when its latest attempt began; rows of older catalogs have none.
    """

    __table_args__ = (
        UniqueConstraint("account", "kind", "key"),
        Index("ix_operation_state_lease_expires_at", "state", "lease_expires_at"),
        Index("ix_operation_finished_at", "finished_at"),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    kind: str = Field(max_length=32)
    account: str = Field(foreign_key="account.name", max_length=63)
    key: str = Field(max_length=128)
    fingerprint: str = Field(default="", max_length=64)
    subject_id: str | None = Field(default=None, max_length=36, index=True)
    state: OperationState = Field(default=OperationState.RUNNING, sa_type=word_column(OperationState))
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
    begun_at: datetime | None = Field(default_factory=utc_now)
    finished_at: datetime | None = None


class Tally(Row, table=True):
    """What attempts of one kind of operation came to, summed up as each ends: it only grows, whatever is deleted later.

    `seconds` is how long they took, `spread` how many took up to each of `models.tallies.BOUNDS` and longer than all of them.
    The bytes are those of the images that they made: guest-visible, compressed, and stored for the first time.
    """

    kind: str = Field(primary_key=True, max_length=32)
    outcome: Outcome = Field(primary_key=True, sa_type=word_column(Outcome))
    ended: int = Field(default=0, sa_type=BigInteger)
    seconds: float = 0.0
    spread: list[int] = Field(default_factory=list, sa_type=JSON)
    data_bytes: int = Field(default=0, sa_type=BigInteger)
    stored_bytes: int = Field(default=0, sa_type=BigInteger)
    new_bytes: int = Field(default=0, sa_type=BigInteger)


class Audit(Row, table=True):
    """Who changed what, when and in which run. `owner` is the subject's account: its trail outlives the subject."""

    __table_args__ = (
        Index("ix_audit_owner_id", "owner", "id"),
        Index("ix_audit_subject_id_id", "subject_id", "id"),
        Index("ix_audit_operation_id", "operation_id"),
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
