"""Chooses who reads a disk that passed the header gate: our own code for RAW, QCOW2 and the ZVHDs, caged QEMU for the rest."""

from __future__ import annotations

from pathlib import Path

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.qcow2 import read_layout
from tasks.engine.disks.qcow2_reader import Qcow2Reader
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.disks.raw_reader import RawReader
from tasks.engine.disks.replay import replayed
from tasks.engine.disks.zvhd import ZvhdReader
from tasks.engine.disks.zvhd2 import Zvhd2Reader
from tasks.engine.geometry import DiskReader


def open_disk(window: Window, finding: Finding, *, scratch: Path) -> DiskReader:
    """The content of the disk in `window`, which the gate has found to be `finding`. `scratch` is the step's private folder."""
    match finding.format:
        case DiskFormat.RAW:
            return RawReader(window, finding)
        case DiskFormat.ZVHD:
            return ZvhdReader(window, finding)
        case DiskFormat.ZVHD2:
            return Zvhd2Reader(window, finding)
        case DiskFormat.QCOW2 if not has_subclusters(window):
            return Qcow2Reader(window, finding)
        case DiskFormat.OVA:
            raise ValueError("an OVA is opened by `package`; its disks are opened here one by one")
        case _:
            return _replayed_disk(window, finding, scratch) if finding.needs_replay else QemuReader(window, finding)


def has_subclusters(window: Window) -> bool:
    """Whether a QCOW2 file uses extended L2 entries, which only QEMU decodes here."""
    with FileBytes(window) as source:
        return read_layout(source)[0].extended


def _replayed_disk(window: Window, finding: Finding, scratch: Path) -> DiskReader:
    """A reader of the replayed copy. The copy's name is gone as soon as QEMU holds the file, so nothing is left behind."""
    copy = replayed(window, scratch=scratch)
    try:
        return QemuReader(copy, _examined_again(copy, finding))
    finally:
        copy.path.unlink()


def _examined_again(copy: Window, finding: Finding) -> Finding:
    """What the gate finds in the copy: a replay may have changed any byte of it, but must not have changed what the disk is."""
    with FileBytes(copy) as source:
        found = gate.examine(source, declared=finding.format, max_virtual_size=finding.virtual_size, depth="full")
    if found.needs_replay or found.virtual_size != finding.virtual_size:
        raise refusal("header_mismatch", "the VHDX is a different disk once its log is replayed")
    return found
