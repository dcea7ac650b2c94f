"""The first two sectors of a partitioned disk, as far as they say how long it is: MBR and GPT header; little-endian. No logic.

https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html
"""

from __future__ import annotations

from typing import NamedTuple

MBR_TABLE_OFFSET = 446
MBR_SIGNATURE_OFFSET = 510
MBR_SIGNATURE = b"\x55\xaa"
MBR_ENTRY = "<B3sB3sII"
MBR_STATUSES = (0x00, 0x80)


class MbrEntry(NamedTuple):
    status: int
    first_chs: bytes
    kind: int
    last_chs: bytes
    first_lba: int
    sectors: int


MBR_UNBOUNDED_KINDS = (0x00, 0xEE)
"""Unused entries, and the one that protects a GPT, whose length is a formality."""

GPT_SIGNATURE = b"EFI PART"
GPT_ALTERNATE_LBA_OFFSET = 32
