"""On-disk structures of hosted sparse VMDK extents, named as in VMware's Virtual Disk Format 5.0; little-endian. No logic.

https://web.archive.org/web/2021/https://www.vmware.com/app/vmdk/?src=vmdk
"""

from __future__ import annotations

from typing import NamedTuple

MAGIC = b"KDMV"
HEADER = "<4sIIQQQQIQQQB4sH"
HEADER_LENGTH = 512


class Header(NamedTuple):
    """All offsets and sizes are in sectors."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    num_gtes_per_gt: int
    rgd_offset: int
    gd_offset: int
    overhead: int
    unclean_shutdown: int
    line_ends: bytes
    compress_algorithm: int


FLAG_NEWLINE_TEST = 1 << 0
FLAG_REDUNDANT_TABLE = 1 << 1
FLAG_ZEROED_GRAINS = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17
FLAGS_KNOWN = 0x30007

LINE_ENDS = b"\n \r\n"
GD_AT_END = 0xFFFFFFFFFFFFFFFF
COMPRESSION_DEFLATE = 1
GTES_PER_GT = 512
GRAIN_ZEROED = 1
MIN_GRAIN_SECTORS, MAX_GRAIN_SECTORS = 8, 2048
MAX_DIRECTORY_ENTRIES = 4 << 20

MARKER = "<QII"
"""numSectors, size, type: before a footer, a table, and at the end of the stream."""
MARKER_FOOTER = 3
FOOTER_DISTANCE = 3 * 512
"""From the footer's marker to the end of the file: marker, header, end-of-stream marker."""
GRAIN_MARKER = "<QIH"
"""lba, size, and the first two bytes of the zlib stream."""
GRAIN_MARKER_LENGTH = 12

DESCRIPTOR_SECTOR = 1
"""QEMU looks for the descriptor here whatever the header says."""
QEMU_DESCRIPTOR_LENGTH = 20 * 512
MAX_DESCRIPTOR_LENGTH = 1 << 20
CREATE_TYPES = ("monolithicSparse", "streamOptimized")
NO_PARENT_CID = "ffffffff"
