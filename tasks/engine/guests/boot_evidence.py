"""What a booting guest has shown so far, judged from plain observations; `boot_check` makes them.

The firmware's own words are among them: in a boot check SeaBIOS and OVMF write to the serial port too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from tasks.engine.guests.agent import AgentFacts
from tasks.engine.guests.console import shows_kernel, shows_login

LOADER_BYTES = 16 << 10
"""More than firmware itself reads of a disk under SeaBIOS (one sector), less than any boot loader with its kernel."""

_UEFI_LOADER = re.compile(r'BdsDxe: starting Boot[0-9A-F]{4} "(?!EFI Internal Shell)')
_NOTHING = re.compile(r"No bootable device\.|No bootable option or device was found|UEFI Interactive Shell v")


class BootLevel(StrEnum):
    """How far a disk came: its agent answered, a login was offered, a kernel wrote, its boot loader ran, or nothing."""

    AGENT = "agent"
    LOGIN = "login"
    KERNEL = "kernel"
    DISK = "disk"
    NONE = "none"

    @property
    def rank(self) -> int:
        """0 for none, 4 for agent."""
        return len(BootLevel) - 1 - list(BootLevel).index(self)


@dataclass(frozen=True)
class BootEvidence:
    """The outcome of one boot check. `seconds` is when the level was reached; the texts are the guest's, cleaned."""

    level: BootLevel
    seconds: float
    console_tail: str
    screenshot_png: bytes | None
    accelerator: str
    agent: AgentFacts


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look at the guest: its console's recent text, and how many bytes it has read from its disks."""

    console: str
    bytes_read: int
    uefi: bool


def level_of(seen: Observation) -> BootLevel:
    """The level that an observation proves by itself; the agent is asked elsewhere."""
    if shows_login(seen.console):
        return BootLevel.LOGIN
    if shows_kernel(seen.console):
        return BootLevel.KERNEL
    if _UEFI_LOADER.search(seen.console) if seen.uefi else seen.bytes_read >= LOADER_BYTES:
        return BootLevel.DISK
    return BootLevel.NONE


def firmware_gave_up(seen: Observation) -> bool:
    """Whether the firmware said that it found nothing to boot."""
    return _NOTHING.search(seen.console) is not None
