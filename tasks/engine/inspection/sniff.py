"""What a disk's first sectors say about booting from it: our own bounded reads, no QEMU, no libguestfs.

File systems are not looked into; the operating system on the disk is `guestfs`'s to find.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from tasks.engine.geometry import SECTOR_SIZE
from tasks.engine.inspection import c_partition as c

Pread = Callable[[int, int], bytes]
"""Bytes of the disk from an offset, as many as asked for unless the disk ends before."""

MAX_ENTRY_ARRAY = 1 << 20
"""A GPT has 16 KiB of entries in practice."""


@dataclass(frozen=True, kw_only=True)
class BootLayout:
    """What a disk offers to firmware. `kind` is a hint: a system disk is one that some firmware could boot from."""

    boot_signature: bool
    boot_code: bool
    partition_table: Literal["none", "mbr", "gpt"]
    has_esp: bool
    damaged_table: bool

    @property
    def bios_bootable(self) -> bool:
        """SeaBIOS jumps into any signed first sector; only one with code can do something there."""
        return self.boot_signature and self.boot_code

    @property
    def boot_mode(self) -> Literal["bios", "uefi", "unknown"]:
        """BIOS where both would do, because it needs nothing else on the host."""
        if self.bios_bootable:
            return "bios"
        return "uefi" if self.has_esp else "unknown"

    @property
    def kind(self) -> Literal["system", "data"]:
        return "data" if self.boot_mode == "unknown" else "system"


def sniff(pread: Pread, *, virtual_size: int) -> BootLayout:
    """Read a disk's layout; a disk without a signature in its first sector boots nowhere and is read no further."""
    sector = pread(0, SECTOR_SIZE)
    signed = len(sector) == SECTOR_SIZE and sector[c.SIGNATURE] == c.SIGNATURE_BYTES
    types = _mbr_types(sector, virtual_size // SECTOR_SIZE) if signed else None
    code = signed and any(sector[c.BOOT_CODE])
    if types is None or not types:
        return BootLayout(boot_signature=signed, boot_code=code, partition_table="none", has_esp=False, damaged_table=False)
    if c.OSTYPE_GPT_PROTECTIVE not in types:
        esp = c.OSTYPE_ESP in types
        return BootLayout(boot_signature=True, boot_code=code, partition_table="mbr", has_esp=esp, damaged_table=False)
    primary = _gpt_types(pread, 1, virtual_size)
    found = primary if primary is not None else _gpt_types(pread, virtual_size // SECTOR_SIZE - 1, virtual_size)
    return BootLayout(
        boot_signature=True,
        boot_code=code,
        partition_table="gpt",
        has_esp=c.TYPE_ESP in (found or ()),
        damaged_table=primary is None,
    )


def _mbr_types(sector: bytes, sectors: int) -> list[int] | None:
    """Types of the used records, or None where the four records are no partition table but, say, a boot sector's code."""
    types = []
    for indicator, _, os_type, _, start, size in c.PARTITION_RECORD.iter_unpack(sector[c.PARTITION_RECORDS]):
        if indicator not in (0x00, 0x80):
            return None
        if os_type == c.OSTYPE_UNUSED:
            continue
        if size == 0 or start == 0 or start >= sectors:
            return None
        types.append(os_type)
    return types


def _gpt_types(pread: Pread, lba: int, virtual_size: int) -> set[UUID] | None:
    """Types of the used entries of the GPT whose header is at `lba`, or None where header or entries fail their CRC."""
    sector = pread(lba * SECTOR_SIZE, SECTOR_SIZE)
    if len(sector) != SECTOR_SIZE:
        return None
    fields = c.GPT_HEADER.unpack_from(sector)
    signature, header_size, header_crc, my_lba = fields[0], fields[2], fields[3], fields[5]
    if signature != c.GPT_SIGNATURE or not c.GPT_HEADER.size <= header_size <= SECTOR_SIZE or my_lba != lba:
        return None
    header = bytearray(sector[:header_size])
    header[c.GPT_HEADER_CRC32] = bytes(4)
    entries_lba, count, entry_size, entries_crc = fields[10:14]
    if zlib.crc32(header) != header_crc or entry_size < 128 or entry_size % 8 or count * entry_size > MAX_ENTRY_ARRAY:
        return None
    if entries_lba * SECTOR_SIZE + count * entry_size > virtual_size:
        return None
    entries = pread(entries_lba * SECTOR_SIZE, count * entry_size)
    return set(_used_types(entries, entry_size)) if zlib.crc32(entries) == entries_crc else None


def _used_types(entries: bytes, entry_size: int) -> Iterator[UUID]:
    for offset in range(0, len(entries) - entry_size + 1, entry_size):
        entry = entries[offset : offset + entry_size]
        first, last = c.GPT_ENTRY_LBAS.unpack_from(entry, c.GPT_ENTRY_LBAS_AT)
        kind = UUID(bytes_le=entry[c.GPT_ENTRY_TYPE])
        if kind != c.TYPE_UNUSED and first <= last:
            yield kind
