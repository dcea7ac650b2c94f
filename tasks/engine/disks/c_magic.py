"""Byte patterns by which disk image files and their neighbours are told apart, each at its offset. No logic.

Accepted formats have their structures in `c_<format>`; the others are listed so that they get a clear refusal.
"""

from __future__ import annotations

from typing import NamedTuple

from tasks.engine.disks.formats import DiskFormat


class Magic(NamedTuple):
    """`pattern` at `offset` from the start says `name`."""

    offset: int
    pattern: bytes
    name: str


ACCEPTED = (
    Magic(0, b"QFI\xfb\x00\x00\x00\x01", DiskFormat.QCOW),
    Magic(0, b"KDMV", DiskFormat.VMDK),
    Magic(0, b"conectix", DiskFormat.VHD),
    Magic(0, b"vhdxfile", DiskFormat.VHDX),
    Magic(0x40, b"\x7f\x10\xda\xbe", DiskFormat.VDI),
    Magic(0, b"stream", DiskFormat.ZVHD),
    Magic(0, b"z2strm", DiskFormat.ZVHD2),
)

QCOW_MAGIC = b"QFI\xfb"
VHD_COOKIE = b"conectix"
TAR_MAGIC = Magic(257, b"ustar", "tar archive")
ISO_MAGIC = Magic(32769, b"CD001", "ISO 9660 image")

REFUSED = (
    Magic(0, b"QED\x00", "QED image"),
    Magic(0, b"LUKS\xba\xbe", "LUKS volume"),
    Magic(0, b"WithoutFreeSpace", "Parallels image"),
    Magic(0, b"WithouFreSpacExt", "Parallels image"),
    Magic(0, b"Bochs Virtual HD Image", "Bochs image"),
    Magic(0, b"#!/bin/sh\n#V2.0 Format\n", "cloop image"),
    Magic(0, b"MSWIM\x00\x00\x00", "WIM archive"),
    Magic(0, b"EVF\x09\x0d\x0a\xff\x00", "EnCase image"),
    Magic(0, b"AFF10\r\n\x00", "AFF image"),
    ISO_MAGIC,
)
"""Refused as `unsupported_format`, LUKS as `encrypted`."""

COMPRESSED = (
    Magic(0, b"\x1f\x8b\x08", "gzip file"),
    Magic(0, b"\xfd7zXZ\x00", "xz file"),
    Magic(0, b"\x28\xb5\x2f\xfd", "zstd file"),
    Magic(4, b"1AY&SY", "bzip2 file"),
    Magic(0, b"PK\x03\x04", "zip archive"),
    Magic(0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    Magic(0, b"\x04\x22\x4d\x18", "LZ4 file"),
)

KOLY_TRAILER = b"koly"
"""First bytes of the last sector of an Apple disk image (DMG)."""

VMDK_COWD = b"COWD"
TRAILER_SIZE = 512
HEAD_SIZE = 1 << 16
"""How much of the beginning is looked at: ISO 9660 shows itself at 32 KiB, a VMDK descriptor after any comments."""
