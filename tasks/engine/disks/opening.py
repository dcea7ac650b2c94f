"""Every format behind one door: a file that passed the gate becomes a DiskReader."""

from __future__ import annotations

from pathlib import Path

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.disks.raw_reader import RawReader
from tasks.engine.disks.replay import replayed
from tasks.engine.disks.zvhd import ZvhdReader
from tasks.engine.disks.zvhd2 import Zvhd2Reader
from tasks.engine.geometry import DiskReader


def open_disk(window: Window, finding: Finding, *, scratch: Path) -> DiskReader:
    """The reader for what the gate found; a copy that is needed goes into `scratch`. Raises DiskRefused."""
    if finding.needs_replay:
        window, finding = replayed(window, finding, scratch / "replayed.vhdx")
    match finding.format:
        case DiskFormat.RAW:
            return RawReader(window, finding)
        case DiskFormat.ZVHD:
            return ZvhdReader(window, finding)
        case DiskFormat.ZVHD2:
            return Zvhd2Reader(window, finding)
        case _:
            return QemuReader(window, finding)
