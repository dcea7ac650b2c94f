"""On-disk structures of VHD, named as in Microsoft's Virtual Hard Disk Image Format Specification 1.0; big-endian. No logic.

https://learn.microsoft.com/en-us/windows/win32/vstor/about-vhd
"""

from __future__ import annotations

from typing import NamedTuple

COOKIE = b"conectix"
DYNAMIC_COOKIE = b"cxsparse"

FOOTER = ">8sIIQI4sIIQQHBBII16sB"
FOOTER_LENGTH = 512
FOOTER_CHECKSUM_OFFSET = 64


class Footer(NamedTuple):
    cookie: bytes
    features: int
    file_format_version: int
    data_offset: int
    time_stamp: int
    creator_application: bytes
    creator_version: int
    creator_host_os: int
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors_per_track: int
    disk_type: int
    checksum: int
    unique_id: bytes
    saved_state: int


DYNAMIC_HEADER = ">8sQQIIII16sII512s"
DYNAMIC_HEADER_LENGTH = 1024
DYNAMIC_CHECKSUM_OFFSET = 36
PARENT_LOCATORS_OFFSET = 576
PARENT_LOCATORS_LENGTH = 8 * 24


class DynamicHeader(NamedTuple):
    cookie: bytes
    data_offset: int
    table_offset: int
    header_version: int
    max_table_entries: int
    block_size: int
    checksum: int
    parent_unique_id: bytes
    parent_time_stamp: int
    reserved: int
    parent_unicode_name: bytes


VERSION = 0x00010000
TYPE_FIXED, TYPE_DYNAMIC, TYPE_DIFFERENCING = 2, 3, 4
NO_DATA_OFFSET = 0xFFFFFFFFFFFFFFFF
UNUSED_BLOCK = 0xFFFFFFFF
MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 4 << 10, 256 << 20
MAX_TABLE_ENTRIES = 4 << 20

CURRENT_SIZE_CREATORS = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS")
"""Writers whose `current_size` counts; for all others the geometry does, as Virtual PC had it and QEMU reads it."""
MAX_GEOMETRY = 65535 * 16 * 255
"""Sectors of the largest geometry, which says no more than that the disk is larger."""
