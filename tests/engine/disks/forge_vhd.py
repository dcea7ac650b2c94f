"""VHD files: a fixed one, and a dynamic one of two blocks with right checksums."""

from __future__ import annotations

from forge_bytes import put

from tasks.engine.disks import c_vhd as c

SECTOR = 512
BLOCK = 4096
VIRTUAL_SIZE = 4 * BLOCK
HEADER, TABLE, BLOCK_0, BLOCK_1 = 1, 3, 4, 13
"""Sectors; a block is a bitmap sector and eight of data."""
END = 23

_FOOTER = c.Footer(
    c.COOKIE, 2, c.VERSION, SECTOR, 0, b"qem2", 0x50003, 0x5769326B, VIRTUAL_SIZE, VIRTUAL_SIZE, 1, 4, 8, 3, 0, bytes(16), 0
)
_HEADER = c.DynamicHeader(
    c.DYNAMIC_COOKIE, c.NO_DATA_OFFSET, TABLE * SECTOR, c.VERSION, 4, BLOCK, 0, bytes(16), 0, 0, bytes(512)
)


def _summed(structure: bytearray, offset: int) -> bytearray:
    return put(structure, offset, ">I", ~sum(structure) & 0xFFFFFFFF)


def mended(data: bytearray) -> bytearray:
    """The dynamic file with its checksums put right after something else was changed."""
    for begin, length, offset in ((0, SECTOR, 64), (SECTOR, 1024, 36), (len(data) - SECTOR, SECTOR, 64)):
        structure = data[begin : begin + length]
        if begin >= 0 and len(structure) == length:
            structure[offset : offset + 4] = bytes(4)
            data[begin : begin + length] = _summed(structure, offset)
    return data


def footer(**fields: int | bytes) -> bytearray:
    """A footer with fields replaced by name and a right checksum; that of a dynamic disk if nothing is said."""
    sector = put(bytearray(SECTOR), 0, c.FOOTER, *_FOOTER._replace(**fields))  # type: ignore[arg-type]
    return _summed(sector, c.FOOTER_CHECKSUM_OFFSET)


def dynamic_header(*, locator: bytes = b"", **fields: int | bytes) -> bytearray:
    header = put(bytearray(1024), 0, c.DYNAMIC_HEADER, *_HEADER._replace(**fields))  # type: ignore[arg-type]
    header[c.PARENT_LOCATORS_OFFSET : c.PARENT_LOCATORS_OFFSET + len(locator)] = locator
    return _summed(header, c.DYNAMIC_CHECKSUM_OFFSET)


def fixed(*, size: int = VIRTUAL_SIZE, **fields: int | bytes) -> bytearray:
    """A fixed VHD with `size` bytes of content."""
    return bytearray(size) + footer(**{"disk_type": c.TYPE_FIXED, "data_offset": c.NO_DATA_OFFSET, **fields})


def dynamic(*, entries: tuple[int, ...] = (BLOCK_0, BLOCK_1), header: bytes | None = None, **fields: int | bytes) -> bytearray:
    """A dynamic VHD; fields of both footers replaced by name."""
    data = bytearray(END * SECTOR)
    data[:SECTOR] = data[-SECTOR:] = footer(**fields)
    data[HEADER * SECTOR : TABLE * SECTOR] = dynamic_header() if header is None else header
    put(data, TABLE * SECTOR, ">4I", *(c.UNUSED_BLOCK,) * 4)
    return put(data, TABLE * SECTOR, f">{len(entries)}I", *entries)
