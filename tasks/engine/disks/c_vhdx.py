"""On-disk structures of VHDX, named as in Microsoft's [MS-VHDX]; little-endian. No logic.

https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-vhdx/
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

MIB = 1 << 20
HEADER_OFFSETS = (64 << 10, 128 << 10)
HEADER_LENGTH = 4096
REGION_TABLE_OFFSETS = (192 << 10, 256 << 10)
REGION_TABLE_LENGTH = 64 << 10
HEADER_SECTION_LENGTH = MIB

HEADER = "<4sIQ16s16s16sHHIQ"
HEADER_SIGNATURE = b"head"
CHECKSUM_OFFSET = 4


class Header(NamedTuple):
    signature: bytes
    checksum: int
    sequence_number: int
    file_write_guid: bytes
    data_write_guid: bytes
    log_guid: bytes
    log_version: int
    version: int
    log_length: int
    log_offset: int


REGION_TABLE = "<4sIII"
"""signature, checksum, entry count, reserved"""
REGION_SIGNATURE = b"regi"
REGION_ENTRY = "<16sQII"
REGION_ENTRY_LENGTH = 32
MAX_ENTRIES = 2047


class Region(NamedTuple):
    guid: bytes
    file_offset: int
    length: int
    required: int


METADATA_TABLE = "<8sHH20s"
METADATA_SIGNATURE = b"metadata"
METADATA_TABLE_LENGTH = 64 << 10
METADATA_ENTRY = "<16sIIII"


class MetadataEntry(NamedTuple):
    item_id: bytes
    offset: int
    length: int
    flags: int
    reserved: int


METADATA_IS_REQUIRED = 1 << 2


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


BAT_REGION = _guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = _guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = _guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = _guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
PAGE_83_DATA = _guid("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = _guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = _guid("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = _guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
NO_GUID = bytes(16)

ITEM_LENGTHS = {
    FILE_PARAMETERS: 8,
    VIRTUAL_DISK_SIZE: 8,
    PAGE_83_DATA: 16,
    LOGICAL_SECTOR_SIZE: 4,
    PHYSICAL_SECTOR_SIZE: 4,
}
HAS_PARENT = 1 << 1
MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = MIB, 256 * MIB
MAX_DISK_SIZE = 64 << 40
SECTORS_PER_BITMAP_BLOCK = 1 << 23

MAX_BAT_ENTRIES = 16 << 20

STATE_MASK = 7
BLOCK_FULLY_PRESENT, BLOCK_PARTIALLY_PRESENT = 6, 7
BLOCK_STATES = (0, 1, 2, 3, BLOCK_FULLY_PRESENT)
