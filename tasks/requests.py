"""What people ask for: the parameters of the lifecycles, with their bounds. The deployment forms are made from these.

Nothing here is looked up; whether the account may have what it asks for is decided by the steps.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.engine.disks.formats import DiskFormat

NAME_PATTERN = r"^[A-Za-z0-9._-](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9._-])?$"
HOSTNAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=NAME_PATTERN,
        description="1 to 128 letters, digits, spaces, dots, underscores or dashes; no space at the ends.",
    ),
]
AccountName = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Account that asks and will own it."),
]
Identifier = Annotated[
    str,
    Field(min_length=1, max_length=128, description="The id, or the name where one of yours has it."),
]
IdempotencyKey = Annotated[
    str | None,
    Field(
        max_length=128,
        description="The same key again continues or returns the same run's subject instead of making a second one.",
    ),
]
Checksum = Annotated[str | None, Field(max_length=80, description="sha256:<64 hex digits> of the file, verified first.")]
Source = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="A path on the host that runs the import, inbox:KEY for an uploaded object, or an http(s) URL.",
    ),
]


class DeclaredFormat(StrEnum):
    """A format as people declare it; `auto` believes the file's own headers."""

    AUTO = "auto"
    RAW = "raw"
    QCOW = "qcow"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    VDI = "vdi"
    ZVHD = "zvhd"
    ZVHD2 = "zvhd2"
    OVA = "ova"

    @property
    def known(self) -> DiskFormat | None:
        """The format, or None where the file's own headers are to be believed."""
        return None if self is DeclaredFormat.AUTO else DiskFormat(self.value)


class ExportFormat(StrEnum):
    """Formats an image can be exported to."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    ZVHD = "zvhd"
    ZVHD2 = "zvhd2"


Verify = Annotated[
    Literal["boot", "none"],
    Field(description="boot: a throwaway guest must show a sign of life before the image is active. none: no such proof."),
]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ImportOptions(_Options):
    """What an import may say besides its source and name."""

    description: str = Field("", max_length=1024, pattern=r"^[^\x00-\x1f<>]*$", description="No control characters, < or >.")
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=50, description="Up to 50 labels."
    )
    min_memory_mib: int = Field(0, ge=0, le=1 << 22, description="Least memory of a flavor that may launch it, in MiB.")
    idempotency_key: IdempotencyKey = None


class LaunchOptions(_Options):
    """What a launch may say besides its image, name and flavor."""

    disk_gib: int | None = Field(None, ge=1, le=65536, description="Size of the system disk in GiB; default: the image's.")
    ssh_keys: list[Annotated[str, Field(min_length=16, max_length=16384)]] = Field(
        default_factory=list, max_length=64, description="OpenSSH public keys that may log in."
    )
    user_data: str = Field(
        "",
        max_length=65536,
        description="Script or cloud-config for first boot. It is visible in the run: no secrets here.",
    )
    user_data_file: Path | None = Field(None, description="File on the host with user data; its content is not recorded.")
    hostname: str | None = Field(None, pattern=HOSTNAME_PATTERN, description="Default: made from the name.")
    standalone: bool = Field(False, description="Also copy the whole base into the ECS's own file.")
    idempotency_key: IdempotencyKey = None
