"""The catalog's table of hosts. What may be done with one is `models.hosts`, which of them takes an ECS `models.placement`."""

# No postponed annotations here, as in models.tables.
from datetime import datetime

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field

from models.rows import Row, utc_now, word_column
from models.vocabulary import HostState


class Host(Row, table=True):
    """A machine that runs guests: its libvirt, the work pool that serves it, and what it last reported of itself.

    `memory_mib` is what guests may have of it in all, `available_mib` what was free when it reported, `cached` the digests of
    disks that its NBD server has served. Columns of a host that never reported are 0 or empty.
    """

    name: str = Field(primary_key=True, max_length=63)
    uri: str = Field(max_length=255)
    pool: str = Field(max_length=255)
    state: HostState = Field(default=HostState.ACTIVE, sa_type=word_column(HostState))
    memory_mib: int = 0
    available_mib: int = 0
    accelerator: str | None = Field(default=None, max_length=16)
    cached: list[str] = Field(default_factory=list, sa_type=JSON)
    cache_bytes: int = Field(default=0, sa_type=BigInteger)
    seen_at: datetime | None = None
    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)
