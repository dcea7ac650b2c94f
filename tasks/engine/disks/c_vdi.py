"""On-disk structures of VirtualBox's VDI version 1.1, named as in its VDICore.h; little-endian. No logic.

https://forums.virtualbox.org/viewtopic.php?t=8046
"""

from __future__ import annotations

from typing import NamedTuple

HEADER = "<64sIIIII256sIIIIIIIQIIII16s16s16s16s"
HEADER_LENGTH = 512


class Header(NamedTuple):
    text: bytes
    signature: int
    version: int
    header_size: int
    image_type: int
    image_flags: int
    description: bytes
    offset_bmap: int
    offset_data: int
    cylinders: int
    heads: int
    sectors: int
    sector_size: int
    unused: int
    disk_size: int
    block_size: int
    block_extra: int
    blocks_in_image: int
    blocks_allocated: int
    uuid_image: bytes
    uuid_last_snap: bytes
    uuid_link: bytes
    uuid_parent: bytes


VERSION = 0x00010001
TYPE_DYNAMIC, TYPE_STATIC, TYPE_UNDO, TYPE_DIFFERENCING = 1, 2, 3, 4
BLOCK_SIZE = 1 << 20
UNALLOCATED, DISCARDED = 0xFFFFFFFF, 0xFFFFFFFE
MAX_BLOCKS = 4 << 20
NO_UUID = bytes(16)
