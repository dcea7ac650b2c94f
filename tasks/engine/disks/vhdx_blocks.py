"""The block allocation table of a VHDX, and who else uses its file: log, metadata, blocks. Headers are read in `vhdx`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.engine.disks import c_vhdx as c
from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.disks.claims import Units, require_aligned
from tasks.engine.disks.codes import refusal
from tasks.engine.geometry import SECTOR_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes in bytes."""

    virtual_size: int
    block_size: int

    @property
    def blocks(self) -> int:
        return -(-self.virtual_size // self.block_size)

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks between two entries for sector bitmaps."""
        return c.SECTORS_PER_BITMAP_BLOCK * SECTOR_SIZE // self.block_size

    @property
    def bat_entries(self) -> int:
        return self.blocks + (self.blocks - 1) // self.chunk_ratio


def check_regions(source: ByteSource, geometry: Geometry, regions: Iterable[c.Region], *, bat: c.Region, full: bool) -> None:
    """Regions are whole MiB inside the file and apart; with `full`, so is every block."""
    if bat.length < geometry.bat_entries * 8 or geometry.bat_entries > c.MAX_BAT_ENTRIES:
        raise refusal("table_size", f"the VHDX's table has {bat.length} bytes for {geometry.bat_entries} entries")
    units = Units(unit=c.MIB, size=source.size)
    units.claim(0, min(c.HEADER_SECTION_LENGTH, source.size), what="the VHDX headers")
    for region in regions:
        require_aligned(region.length, unit=c.MIB, what="the length of a VHDX region")
        units.claim(region.file_offset, region.length, what="a VHDX region")
    if full:
        _check_blocks(source, geometry, units, bat.file_offset)


def present_blocks(source: ByteSource, geometry: Geometry, *, offset: int) -> Iterator[int]:
    """Numbers of the blocks that the file stores, ascending; the others read as zeros. `offset`: where the table begins."""
    return (
        block for block, entry in _payload_entries(source, geometry, offset) if entry & c.STATE_MASK == c.BLOCK_FULLY_PRESENT
    )


def _check_blocks(source: ByteSource, geometry: Geometry, units: Units, offset: int) -> None:
    for block, entry in _payload_entries(source, geometry, offset):
        _check_block(geometry, units, entry, block)


def _payload_entries(source: ByteSource, geometry: Geometry, offset: int) -> Iterator[tuple[int, int]]:
    """Block numbers with their table entries, without the entries for sector bitmaps between them."""
    table = array("Q", source.pread(offset, geometry.bat_entries * 8))
    if sys.byteorder == "big":
        table.byteswap()
    for index, entry in enumerate(table):
        row, column = divmod(index, geometry.chunk_ratio + 1)
        if column < geometry.chunk_ratio:
            yield row * geometry.chunk_ratio + column, entry


def _check_block(geometry: Geometry, units: Units, entry: int, block: int) -> None:
    """One payload entry; sector bitmap entries mean nothing without a parent."""
    state = entry & c.STATE_MASK
    if state == c.BLOCK_PARTIALLY_PRESENT:
        raise refusal("differencing", "a VHDX block holds only the differences from a parent disk")
    if state not in c.BLOCK_STATES:
        raise refusal("bad_entry", f"VHDX block {block} has unknown state {state}")
    if state == c.BLOCK_FULLY_PRESENT:
        visible = min(geometry.block_size, geometry.virtual_size - block * geometry.block_size)
        units.claim(entry >> 20 << 20, visible, what="a VHDX block")
