"""A VHDX of six MiB with right checksums: headers, log, block table, metadata, and two blocks of 1 MiB."""

from __future__ import annotations

from forge_bytes import put

from tasks.engine.disks import c_vhdx as c
from tasks.engine.disks.checksums import crc32c

LOG, BAT, METADATA, BLOCK_0, BLOCK_1, END = (number * c.MIB for number in range(1, 7))
VIRTUAL_SIZE = 4 * c.MIB
PRESENT = c.BLOCK_FULLY_PRESENT

_HEADER = c.Header(b"head", 0, 7, bytes(16), bytes(16), bytes(16), 0, 1, c.MIB, LOG)
_REGIONS = (c.Region(c.BAT_REGION, BAT, c.MIB, 1), c.Region(c.METADATA_REGION, METADATA, c.MIB, 1))
_ITEMS = (
    (c.FILE_PARAMETERS, "<II", (c.MIB, 0)),
    (c.VIRTUAL_DISK_SIZE, "<Q", (VIRTUAL_SIZE,)),
    (c.PAGE_83_DATA, "<16s", (b"p" * 16,)),
    (c.LOGICAL_SECTOR_SIZE, "<I", (512,)),
    (c.PHYSICAL_SECTOR_SIZE, "<I", (4096,)),
)


def _summed(structure: bytearray) -> bytearray:
    return put(structure, c.CHECKSUM_OFFSET, "<I", crc32c(bytes(structure)))


def mended(data: bytearray) -> bytearray:
    """The file with its checksums put right after something else was changed."""
    structures = [(offset, c.HEADER_LENGTH) for offset in c.HEADER_OFFSETS]
    for begin, length in (*structures, (c.REGION_TABLE_OFFSETS[0], c.REGION_TABLE_LENGTH)):
        if len(data) >= begin + length:
            data[begin + 4 : begin + 8] = bytes(4)
            data[begin : begin + length] = _summed(data[begin : begin + length])
    return data


def header(**fields: int | bytes) -> bytearray:
    """One header with fields replaced by name and a right checksum."""
    return _summed(put(bytearray(c.HEADER_LENGTH), 0, c.HEADER, *_HEADER._replace(**fields)))  # type: ignore[arg-type]


def region_table(*regions: c.Region, count: int | None = None) -> bytearray:
    table = bytearray(c.REGION_TABLE_LENGTH)
    put(table, 0, c.REGION_TABLE, b"regi", 0, len(regions) if count is None else count, 0)
    for index, region in enumerate(regions):
        put(table, 16 + index * c.REGION_ENTRY_LENGTH, c.REGION_ENTRY, *region)
    return _summed(table)


def with_regions(*regions: c.Region, count: int | None = None) -> bytearray:
    """The file with another region table, both copies."""
    data = vhdx()
    for offset in c.REGION_TABLE_OFFSETS:
        data[offset : offset + c.REGION_TABLE_LENGTH] = region_table(*regions, count=count)
    return data


def regions(*, bat: int = BAT, bat_length: int = c.MIB, metadata: int = METADATA) -> tuple[c.Region, c.Region]:
    """The usual two regions in other places."""
    return _REGIONS[0]._replace(file_offset=bat, length=bat_length), _REGIONS[1]._replace(file_offset=metadata)


def vhdx(
    *entries: int,
    items: dict[bytes, tuple[int, ...]] | None = None,
    extra: tuple[c.MetadataEntry, ...] = (),
    **fields: int | bytes,
) -> bytearray:
    """The file; `entries` begin its block table, `items` replace metadata by GUID, `fields` those of both headers."""
    data = bytearray(END)
    data[:8] = b"vhdxfile"
    for offset in c.HEADER_OFFSETS:
        data[offset : offset + c.HEADER_LENGTH] = header(**fields)
    for offset in c.REGION_TABLE_OFFSETS:
        data[offset : offset + c.REGION_TABLE_LENGTH] = region_table(*_REGIONS)
    _put_metadata(data, items or {}, extra)
    entries = entries or (BLOCK_0 | PRESENT, BLOCK_1 | PRESENT)
    return put(data, BAT, f"<{len(entries)}Q", *entries)


def _put_metadata(data: bytearray, items: dict[bytes, tuple[int, ...]], extra: tuple[c.MetadataEntry, ...]) -> None:
    put(data, METADATA, c.METADATA_TABLE, c.METADATA_SIGNATURE, 0, len(_ITEMS) + len(extra), bytes(20))
    at = c.METADATA_TABLE_LENGTH
    for index, (guid, layout, usual) in enumerate(_ITEMS):
        length = c.ITEM_LENGTHS[guid]
        put(data, METADATA + 32 * (index + 1), c.METADATA_ENTRY, guid, at, length, c.METADATA_IS_REQUIRED, 0)
        put(data, METADATA + at, layout, *items.get(guid, usual))
        at += 32
    for index, entry in enumerate(extra, start=len(_ITEMS)):
        put(data, METADATA + 32 * (index + 1), c.METADATA_ENTRY, *entry)
