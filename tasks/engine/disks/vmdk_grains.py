"""VMDK grain directories, grain tables and every grain they name. Header and footer are read in `vmdk`."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator

from tasks.engine.disks import c_vmdk as c
from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.disks.claims import Blocks, Regions, Units, require_inside, require_walkable
from tasks.engine.disks.codes import refusal
from tasks.engine.geometry import SECTOR_SIZE

_TABLE_LENGTH = c.GTES_PER_GT * 4


def check_directory(source: ByteSource, header: c.Header) -> None:
    """The grain directories are inside the file, and so are the grain tables they name."""
    for offset in _directories(header):
        for table in _read_directory(source, header, offset):
            if table:
                require_inside(table * SECTOR_SIZE, _TABLE_LENGTH, size=source.size, what="a grain table")


def check_grains(source: ByteSource, header: c.Header) -> None:
    """Every grain is inside the file, whole, and apart from metadata and every other grain."""
    regions = _metadata(source, header)
    check = _Compressed(source, header, regions) if header.flags & c.FLAG_COMPRESSED else _Plain(header, regions)
    zeroed = c.GRAIN_ZEROED if header.flags & c.FLAG_ZEROED_GRAINS else 0
    whole, rest = divmod(header.capacity, header.grain_size)
    for first, table in _tables(source, header):
        check.whole([(first + index, at) for index, at in enumerate(table[: max(whole - first, 0)]) if at not in (0, zeroed)])
        if rest and 0 <= whole - first < c.GTES_PER_GT and table[whole - first] not in (0, zeroed):
            check.last(whole, table[whole - first], rest * SECTOR_SIZE)


def _directories(header: c.Header) -> list[int]:
    """File offsets of the grain directory and of its redundant copy."""
    offsets = [header.gd_offset]
    if header.flags & c.FLAG_REDUNDANT_TABLE and header.rgd_offset:
        offsets.append(header.rgd_offset)
    return [offset * SECTOR_SIZE for offset in offsets]


def _directory_entries(header: c.Header) -> int:
    return -(-header.capacity // (c.GTES_PER_GT * header.grain_size))


def _read_directory(source: ByteSource, header: c.Header, offset: int) -> array[int]:
    entries = _directory_entries(header)
    require_inside(offset, entries * 4, size=source.size, what="the grain directory")
    return _numbers(source.pread(offset, entries * 4))


def _numbers(data: bytes) -> array[int]:
    numbers = array("I", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _metadata(source: ByteSource, header: c.Header) -> Regions:
    """Header, descriptor, directories and tables, none of them twice."""
    regions = Regions(size=source.size)
    regions.claim(0, SECTOR_SIZE + header.descriptor_size * SECTOR_SIZE, what="the VMDK header and descriptor")
    for offset in _directories(header):
        regions.claim(offset, _directory_entries(header) * 4, what="a grain directory")
    for offset in _directories(header):
        tables = [table * SECTOR_SIZE for table in _read_directory(source, header, offset) if table]
        require_walkable(len(tables) * c.GTES_PER_GT)
        regions.claim_tables(tables, _TABLE_LENGTH, what="a grain table")
    return regions


def _tables(source: ByteSource, header: c.Header) -> Iterator[tuple[int, array[int]]]:
    """Number of the first grain and the entries of each grain table that has any."""
    for index, sector in enumerate(_read_directory(source, header, header.gd_offset * SECTOR_SIZE)):
        if sector:
            table = _numbers(source.pread(sector * SECTOR_SIZE, _TABLE_LENGTH))
            yield index * c.GTES_PER_GT, table


class _Plain:
    """Grains of one length that may begin at any sector."""

    def __init__(self, header: c.Header, regions: Regions) -> None:
        self._blocks = Blocks(length=header.grain_size * SECTOR_SIZE, regions=regions)

    def whole(self, grains: list[tuple[int, int]]) -> None:
        """Grains by number and the sector of the file where each begins."""
        self._blocks.claim_whole([at for _, at in grains], what="a grain")

    def last(self, number: int, at: int, needed: int) -> None:
        """The grain in which the disk ends after `needed` bytes."""
        del number
        self._blocks.claim(at, needed=needed, what="a grain")


class _Compressed:
    """Grains that say their own length and place, each a zlib stream."""

    def __init__(self, source: ByteSource, header: c.Header, regions: Regions) -> None:
        self._source, self._regions = source, regions
        self._grain_size, self._most = header.grain_size, header.grain_size * SECTOR_SIZE * 2
        self._units = Units(unit=SECTOR_SIZE, size=source.size)

    def whole(self, grains: list[tuple[int, int]]) -> None:
        """Grains by number and the sector of the file where each begins."""
        for number, at in grains:
            self._check(at * SECTOR_SIZE, number * self._grain_size)

    def last(self, number: int, at: int, needed: int) -> None:
        """The grain in which the disk ends; compressed, it is like any other."""
        del needed
        self.whole([(number, at)])

    def _check(self, offset: int, lba: int) -> None:
        """The grain at byte `offset` of the file, which begins at sector `lba` of the disk."""
        marker = struct.calcsize(c.GRAIN_MARKER)
        require_inside(offset, marker, size=self._source.size, what="a compressed grain")
        said_lba, size, zlib_header = struct.unpack(c.GRAIN_MARKER, self._source.pread(offset, marker))
        if said_lba != lba:
            raise refusal("bad_entry", f"the VMDK grain of sector {lba} says that it is of sector {said_lba}")
        if not 2 < size <= self._most or not _is_zlib(zlib_header):
            raise refusal("bad_entry", f"the compressed VMDK grain of sector {lba} is damaged")
        length = c.GRAIN_MARKER_LENGTH + size
        self._units.claim(offset, length, what="a compressed grain")
        if self._regions.touches(offset, length):
            raise refusal("overlap", f"the compressed grain at byte {offset} overlaps metadata")


def _is_zlib(header: int) -> bool:
    """RFC 1950: method 8 in the low bits, and a multiple of 31 when read the other way around."""
    return header & 0x0F == 8 and ((header & 0xFF) << 8 | header >> 8) % 31 == 0
