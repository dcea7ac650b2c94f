"""What is known of the operating system on a disk, as plain bounded text: every value came from a hostile disk.

`guestfs` gathers it in a child process; nothing here touches a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

UNKNOWN = "unknown"
MAX_TEXT = 128
MAX_FILESYSTEMS = 64


@dataclass(frozen=True)
class Filesystem:
    """A file system as libguestfs names it (/dev/sda1 is the first disk's first partition), and its type."""

    device: str
    type: str


@dataclass(frozen=True, kw_only=True)
class OsFacts:
    """The operating system found. Texts are `unknown` and versions 0 where nothing is known; `reason` says why."""

    type: str = UNKNOWN
    distro: str = UNKNOWN
    major: int = 0
    minor: int = 0
    product_name: str = UNKNOWN
    architecture: str = UNKNOWN
    hostname: str = UNKNOWN
    osinfo: str = UNKNOWN
    package_format: str = UNKNOWN
    filesystems: tuple[Filesystem, ...] = ()
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether an operating system was found."""
        return self.type != UNKNOWN

    def as_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is the way back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Facts from plain values of any origin: texts cleaned and cut, numbers bounded, surplus dropped."""
        texts = {name: clean(values.get(name)) or UNKNOWN for name in _TEXTS}
        pairs = [(clean(each.get("device")), clean(each.get("type"))) for each in values.get("filesystems") or ()]
        return cls(
            **texts,
            major=_number(values.get("major")),
            minor=_number(values.get("minor")),
            filesystems=tuple(Filesystem(*pair) for pair in pairs[:MAX_FILESYSTEMS]),
            reason=clean(values.get("reason"), limit=400),
        )


_TEXTS = ("type", "distro", "product_name", "architecture", "hostname", "osinfo", "package_format")


def clean(value: object, *, limit: int = MAX_TEXT) -> str:
    """One line of printable text."""
    text = "".join(char if char.isprintable() else " " for char in str(value or "")[: 4 * limit])
    return " ".join(text.split())[:limit]


def _number(value: object) -> int:
    return min(value, 99_999) if isinstance(value, int) and value > 0 else 0
