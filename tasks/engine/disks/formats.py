"""Names of the disk image formats, and where in which file one is. How each looks inside is in the module of its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class DiskFormat(StrEnum):
    """A container for the content of virtual disks. OVA holds several disks; the others hold one."""

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


EXPORT_FORMATS = (
    DiskFormat.RAW,
    DiskFormat.QCOW2,
    DiskFormat.VMDK,
    DiskFormat.VHD,
    DiskFormat.VHDX,
    DiskFormat.ZVHD,
    DiskFormat.ZVHD2,
)

QEMU_DRIVERS = {
    DiskFormat.QCOW: "qcow",
    DiskFormat.QCOW2: "qcow2",
    DiskFormat.VMDK: "vmdk",
    DiskFormat.VHD: "vpc",
    DiskFormat.VHDX: "vhdx",
    DiskFormat.VDI: "vdi",
}
"""Formats that QEMU decodes for us, in its cage. RAW and the ZVHDs are read by our own code alone."""


@dataclass(frozen=True, slots=True)
class Window:
    """A run of bytes in a local file that holds one disk image file: a whole file, or one member of an OVA."""

    path: Path
    offset: int = 0
    size: int = -1
    """Length in bytes; -1 means to the end of the file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the gate established about one disk image file from our own reading of its headers."""

    format: DiskFormat
    virtual_size: int
    """Guest-visible bytes."""
    needs_replay: bool = False
    """A VHDX with a dirty log: QEMU must replay it on a private copy before it can be read."""
