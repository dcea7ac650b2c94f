"""The fixed words that catalog columns hold. Which state may follow which is in `models.states`."""

from __future__ import annotations

from enum import StrEnum


class ImageState(StrEnum):
    QUEUED = "queued"
    TRANSFERRING = "transferring"
    VERIFYING = "verifying"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    ERROR = "error"
    DELETED = "deleted"


UNFINISHED_IMAGE = (ImageState.QUEUED, ImageState.TRANSFERRING, ImageState.VERIFYING)
"""States in which an image counts as a creation under way."""


class EcsState(StrEnum):
    BUILDING = "building"
    ACTIVE = "active"
    STOPPED = "stopped"
    ERROR = "error"
    DELETED = "deleted"


class HostState(StrEnum):
    """Whether new ECSs may go to a host. Whether it is there at all, its last report tells."""

    ACTIVE = "active"
    DRAINING = "draining"


class OperationState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Outcome(StrEnum):
    """What an attempt of an operation came to; `lost` when its process ended without a word and another one took it over."""

    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class BootProof(StrEnum):
    """The strongest sign of life that a boot showed, strongest first; `unchecked` when nobody looked."""

    AGENT = "agent"
    LOGIN = "login"
    KERNEL = "kernel"
    DISK = "disk"
    NONE = "none"
    UNCHECKED = "unchecked"


class Consistency(StrEnum):
    """What a captured image's disks agree with: a guest that was off, one whose file systems were frozen, or a power cut."""

    STOPPED = "stopped"
    FILESYSTEM = "filesystem"
    CRASH = "crash"


class BootMode(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class Architecture(StrEnum):
    X86_64 = "x86_64"
    I686 = "i686"
    AARCH64 = "aarch64"


class DiskKind(StrEnum):
    SYSTEM = "system"
    DATA = "data"


class ImageType(StrEnum):
    """What an image is to the account that looks at it; nothing stores this."""

    PUBLIC = "public"
    PRIVATE = "private"
    SHARED = "shared"
    MARKETPLACE = "marketplace"


class MemberState(StrEnum):
    """One share of an image with one account, as its recipient answered it."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class VersionState(StrEnum):
    """One version of a marketplace listing, on its way to everybody and back."""

    DRAFT = "draft"
    SCANNING = "scanning"
    IN_REVIEW = "in_review"
    LISTED = "listed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


UNDER_WAY = (VersionState.DRAFT, VersionState.SCANNING, VersionState.IN_REVIEW)
"""States of a version that nobody has decided on yet."""


class WithdrawnFor(StrEnum):
    """Whom a withdrawn version is closed to: accounts that had not subscribed before, or all."""

    NEW = "new"
    ALL = "all"


class Decision(StrEnum):
    """What a reviewer says of a version."""

    APPROVE = "approve"
    REJECT = "reject"


class Purpose(StrEnum):
    """What a scan was made for."""

    CHECK = "check"
    PUBLISH = "publish"
    PUBLIC = "public"
    RESCAN = "rescan"


class Fate(StrEnum):
    """What a garbage collector did with an object's name: anyone may take back what is published, nobody what is granted."""

    PUBLISHED = "published"
    GRANTED = "granted"
    DELETED = "deleted"
