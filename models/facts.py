"""What is known of an image beyond its bytes: the guest inside, declared by its owner and detected by us, and how it booted.

Detection itself is `tasks.engine.inspection`; the rows are written by `models.images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.tables import GIB, Image
from models.vocabulary import Architecture, BootMode, BootProof, DiskKind


class GuestFacts(BaseModel):
    """One opinion on the guest; None where it has none."""

    model_config = ConfigDict(frozen=True)

    os_type: str | None = Field(default=None, max_length=32)
    os_distro: str | None = Field(default=None, max_length=64)
    os_version: str | None = Field(default=None, max_length=64)
    architecture: Architecture | None = None
    boot_mode: BootMode | None = None

    def as_json(self) -> dict[str, str]:
        return self.model_dump(mode="json", exclude_none=True)


class DiskFacts(BaseModel):
    """One disk whose manifest is stored. Sizes in bytes: guest-visible data, compressed, and those not in the store before."""

    model_config = ConfigDict(frozen=True)

    index: int = Field(ge=0)
    kind: DiskKind
    virtual_size: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    data_bytes: int = Field(ge=0)
    stored_bytes: int = Field(ge=0)
    new_bytes: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class BootReport:
    """What a boot check saw; `detail` holds what a person wants to look at, such as the end of the console."""

    proof: BootProof
    detail: Mapping[str, Any] = field(default_factory=dict)


def merge_facts(image: Image) -> None:
    """Set the verdict columns: what was detected beats what was declared."""
    verdict = GuestFacts.model_validate({**image.declared, **image.detected})
    image.os_type, image.os_distro, image.os_version = verdict.os_type, verdict.os_distro, verdict.os_version
    image.architecture, image.boot_mode = verdict.architecture, verdict.boot_mode


def whole_gib(size: int) -> int:
    """The smallest number of GiB that holds `size` bytes."""
    return -(-size // GIB)
