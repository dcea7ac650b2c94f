"""What people ask for: the parameters of the lifecycles, with their bounds. The deployment forms are made from these.

Nothing here is looked up; whether the account may have what it asks for is decided by the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from models.vocabulary import Decision, WithdrawnFor
from tasks.engine.disks.formats import DiskFormat

NAME_PATTERN = r"^[A-Za-z0-9._-](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9._-])?$"
HOST_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
HOSTNAME_PATTERN = r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"


@dataclass(frozen=True)
class Help:
    """What a deployment form says of a field: Prefect keeps the bounds of a parameter's `Field` and drops its description."""

    text: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        shown: dict[str, Any] = {**handler(schema), "description": self.text}
        for way in shown.get("anyOf", ()):  # the form offers the ways to fill an optional field by these names
            way["title"] = "none" if way.get("type") == "null" else "value"
        return shown


Name = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=NAME_PATTERN),
    Help("1 to 128 letters, digits, spaces, dots, underscores or dashes; no space at the ends."),
]
AccountName = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$"),
    Help("Account that asks and will own it."),
]
PLAIN = r"^[^\x00-\x1f\x7f]*$"
Identifier = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=PLAIN),
    Help("The id, or the name where one of yours has it."),
]
EcsNames = Annotated[
    list[Identifier],
    Field(max_length=1000),
    Help("ECSs to capture one after the other, by id or name. None named: nothing is done."),
]
Keep = Annotated[int, Field(ge=1, le=1000), Help("How many images of each ECS's series are kept.")]
Apply = Annotated[bool, Help("Delete what is beyond them. Without it the report says what would be deleted.")]
IdempotencyKey = Annotated[
    str | None,
    Field(max_length=128),
    Help("The same key again continues or returns the same run's subject instead of making a second one."),
]
Checksum = Annotated[
    str | None,
    Field(max_length=80),
    Help("sha256:<64 hex digits> of the file, verified first."),
]
Source = Annotated[
    str,
    Field(min_length=1, max_length=4096),
    Help("A path on the host that runs the import, inbox:KEY for an uploaded object, or an http(s) URL."),
]
InboxKey = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Help("Name of an object in the account's folder of the inbox bucket."),
]
Target = Annotated[
    str | None,
    Field(max_length=4096),
    Help("New file on the host that runs the export; none: the exports bucket and a URL."),
]
ExportDays = Annotated[
    int | None,
    Field(ge=0, le=3650),
    Help("Files exported longer ago are removed; 0: all of them; none: as the setting IMS_EXPORT_DAYS says."),
]
ReportDays = Annotated[int, Field(ge=1, le=366), Help("How many days back the times of runs are looked at.")]
DiskIndex = Annotated[int, Field(ge=0, le=3), Help("Which disk of the image; 0 is the system disk.")]
Flavor = Annotated[str, Field(min_length=1, max_length=63), Help("Size of the guest: see `ims flavor list`.")]


Whole = Annotated[bool, Help("All disks of the ECS at one point in time, instead of its system disk alone.")]
DryRun = Annotated[bool, Help("Change nothing: say what would be done.")]
RemoveStrangers = Annotated[bool, Help("Also remove domains and files of this host that the catalog does not know.")]
Collects = Annotated[bool, Help("Delete what nothing needs; without it the run only says what it would delete.")]
KeepHours = Annotated[
    float,
    Field(ge=0, le=24 * 365),
    Help("Keep objects that are younger than this, so that imports that were broken off need not send them again."),
]
Adopt = Annotated[bool, Help("Take over a bucket that is marked as another catalog's, or not marked and full.")]
Everything = Annotated[bool, Help("Read every chunk now, not only the share that is due.")]
Generalize = Annotated[
    bool,
    Help("Remove the guest's identity: host keys, machine-id, cloud-init state, logs, shell history, leases."),
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
    Help("boot: a throwaway guest must show a sign of life before the image is active. none: no such proof."),
]


class _Options(BaseModel):
    """Its fields have the same names in the form as in a call."""

    model_config = ConfigDict(extra="forbid", field_title_generator=lambda name, _: name)


class ImageLabels(_Options):
    """What an image's maker may say of it."""

    description: str = Field("", max_length=1024, pattern=r"^[^\x00-\x1f<>]*$", description="No control characters, < or >.")
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=50, description="Up to 50 labels."
    )
    min_memory_mib: int = Field(0, ge=0, le=1 << 22, description="Least memory of a flavor that may launch it, in MiB.")


class ImportOptions(ImageLabels):
    """What an import may say besides its source and name."""

    etag: Annotated[
        str | None, Help("Take an inbox object or a URL only while the server gives it this ETag; none: whatever is there.")
    ] = Field(None, max_length=256)
    idempotency_key: IdempotencyKey = None


class CaptureOptions(_Options):
    """What a capture may say besides its ECS, name and scope."""

    disk: Annotated[int | None, Help("Make a data-disk image of this one disk instead: 1 is the first data disk.")] = Field(
        None, ge=1, le=3
    )
    consistency: Literal["best", "filesystem", "crash"] = Field(
        "best",
        description="best: freeze the file systems where the guest agent can, else as after a power cut. "
        "filesystem: refuse anything less. crash: do not freeze. A stopped ECS is always consistent.",
    )
    description: str = Field("", max_length=1024, pattern=r"^[^\x00-\x1f<>]*$", description="No control characters, < or >.")
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=50, description="Up to 50 labels."
    )
    series: Annotated[str | None, Help("Series that it belongs to: retention keeps the last ones of each.")] = Field(
        None, max_length=128, pattern=NAME_PATTERN
    )
    idempotency_key: IdempotencyKey = None


class LaunchOptions(_Options):
    """What a launch may say besides its image, name and flavor."""

    disk_gib: Annotated[int | None, Help("Size of the system disk in GiB; default: the image's.")] = Field(None, ge=1, le=65536)
    data_disks_gib: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default_factory=list, max_length=3, description="Sizes in GiB of empty data disks to add, up to three."
    )
    ssh_keys: list[Annotated[str, Field(min_length=16, max_length=16384)]] = Field(
        default_factory=list, max_length=64, description="OpenSSH public keys that may log in."
    )
    user_data: str = Field(
        "",
        max_length=65536,
        description="Script or cloud-config for first boot. It is visible in the run: no secrets here.",
    )
    user_data_file: Annotated[
        Path | None,
        Help("File with user data on the host that launches; its content is not recorded. Without a host, this one."),
    ] = None
    hostname: Annotated[str | None, Help("Default: made from the name.")] = Field(None, pattern=HOSTNAME_PATTERN)
    host: Annotated[str | None, Help("Host that it is launched on; none: one with room, rather one that has the disk.")] = (
        Field(None, max_length=63, pattern=HOST_PATTERN)
    )
    standalone: bool = Field(False, description="Also copy the whole base into the ECS's own file.")
    idempotency_key: IdempotencyKey = None


Recipients = Annotated[
    list[AccountName],
    Field(min_length=1, max_length=128),
    Help("Accounts by name, up to 128."),
]
ShareDays = Annotated[
    int | None,
    Field(ge=1, le=3650),
    Help("Days after which the share ends by itself; none: it stays until somebody ends it."),
]
OfferedImage = Annotated[
    str, Field(min_length=1, max_length=128, pattern=PLAIN), Help("Id or name of an image that another account shares.")
]
ContentDigest = Annotated[
    str | None,
    Field(max_length=64),
    Help("The digest that the offer showed: anything else is refused. None: whatever is offered."),
]
Title = Annotated[
    str, Field(min_length=1, max_length=128, pattern=NAME_PATTERN), Help("Title of the product on the marketplace.")
]
VersionName = Annotated[
    str,
    Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"),
    Help("Version of the product, such as 1.0; no other version of it may have it."),
]
Summary = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f<>]*$"), Help("One line on what it is; no < or >.")
]
Categories = Annotated[
    list[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]],
    Field(min_length=1, max_length=5),
    Help("1 to 5 categories in lower case, such as os, database or web."),
]
SupportContact = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f<>]*$"), Help("Where a subscriber asks for help.")
]
Licence = Annotated[str, Field(min_length=1, max_length=65536), Help("Text of the licence that subscribers accept.")]
LicenceDigest = Annotated[
    str,
    Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$"),
    Help("SHA-256 of the licence text that was read: accepting it accepts that text."),
]
Listed = Annotated[
    str, Field(min_length=1, max_length=128, pattern=PLAIN), Help("Id of the listing, or its title where one alone has it.")
]
VersionId = Annotated[str, Field(min_length=1, max_length=36, pattern=PLAIN), Help("Id of the version.")]
Scope = Annotated[
    WithdrawnFor, Help("new: accounts that have not subscribed yet cannot launch it. all: nobody but its owner can.")
]
Descendants = Annotated[bool, Help("Also revoke every image that descends from it.")]
Public = Annotated[bool, Help("Show it to every account. Off: take it back.")]
Answer = Annotated[Decision, Help("approve: it is listed at once. reject: the publisher sees the note and submits anew.")]
Note = Annotated[str, Field(max_length=1024), Help("What the publisher is told.")]
Policy = Annotated[
    Literal["notify", "withdraw-new", "withdraw-all"],
    Help("What a new finding leads to besides the event: nothing, or the version's withdrawal."),
]


class ListingOptions(_Options):
    """What a publisher may say of a version besides what it must."""

    description: str = Field("", max_length=65536, description="As long as it needs to be; shown as plain text.")
    logo_png: str = Field("", max_length=90_000, description="A PNG of at most 64 KiB and 512 pixels a side, in base64.")
    review_days: int = Field(7, ge=1, le=90, description="After so many days without an answer the version is rejected.")
    idempotency_key: IdempotencyKey = None
