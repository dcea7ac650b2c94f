"""The catalog's tables of the object store: what a garbage collector and the writers of disks tell each other there.

What they mean together is `models.collecting`; why they are safe, docs/adr/0011-collecting.md.
"""

# No postponed annotations here, as in models.tables.
from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from models.rows import Row, new_id, utc_now, word_column
from models.vocabulary import Fate

MAX_OBJECT_KEY = 80


class StoreGate(Row, table=True):
    """The one row that every step of collectors and writers locks. `epoch` counts settled deletions and found damage.

    `catalog_id` is what the bucket's marker names, so that a collector never empties another catalog's bucket.
    `verified_next` is the folder (0 to 255) that the next verification reads first, in the cycle begun at `cycle_began_at`.
    """

    __tablename__ = "store_gate"

    id: int = Field(default=1, primary_key=True)
    epoch: int = Field(default=0, sa_type=BigInteger)
    catalog_id: str = Field(default_factory=new_id, max_length=36)
    verified_next: int = 0
    cycle_began_at: datetime | None = None
    cycle_ended_at: datetime | None = None


class StoreWriter(Row, table=True):
    """A run that stores a disk now. It knows of everything that was settled up to `epoch`."""

    __tablename__ = "store_writer"

    operation_id: str = Field(primary_key=True, foreign_key="operation.id", max_length=36)
    token: str = Field(max_length=36)
    epoch: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(default_factory=utc_now)


class HeldDisk(Row, table=True):
    """A manifest that an operation stored, and that is needed until the operation is done or its image deleted."""

    __tablename__ = "held_disk"

    operation_id: str = Field(primary_key=True, foreign_key="operation.id", max_length=36)
    digest: str = Field(primary_key=True, max_length=64)


class CondemnedObject(Row, table=True):
    """An object that a collector takes for garbage: published, being deleted, or deleted in the epoch that it names."""

    __tablename__ = "condemned_object"
    __table_args__ = (Index("ix_condemned_object_fate_epoch", "fate", "epoch"),)

    key: str = Field(primary_key=True, max_length=MAX_OBJECT_KEY)
    fate: Fate = Field(sa_type=word_column(Fate))
    collector: str = Field(max_length=36)
    epoch: int = Field(default=0, sa_type=BigInteger)
    granted_at: datetime | None = None


class DamagedObject(Row, table=True):
    """An object that was found unreadable or missing in the epoch that it names, until it is read well again."""

    __tablename__ = "damaged_object"

    key: str = Field(primary_key=True, max_length=MAX_OBJECT_KEY)
    epoch: int = Field(sa_type=BigInteger)
    reason: str = Field(default="", max_length=255)
    found_at: datetime = Field(default_factory=utc_now)
