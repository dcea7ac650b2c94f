"""Who uses which bytes of a disk image file: past_end, unaligned and overlap are found here, in bounded memory.

The mapping tables are walked in the module of each format.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise

from tasks.engine.disks.codes import refusal
from tasks.engine.geometry import SECTOR_SIZE

MAX_UNITS = 1 << 29
"""Bytes of memory that `Units` may need at worst; only touched pages cost anything."""
MAX_BLOCKS = 1 << 26


MAX_WALKED_ENTRIES = 1 << 26


def require_walkable(entries: int) -> None:
    """The mapping tables that a file really has are few enough to walk in a minute at worst."""
    if entries > MAX_WALKED_ENTRIES:
        raise refusal("file_size", f"the file maps up to {entries} clusters, more than can be checked")


def require_inside(offset: int, length: int, *, size: int, what: str) -> None:
    """`what` lies wholly inside a file of `size` bytes."""
    if offset + length > size:
        raise refusal("past_end", f"{what} at byte {offset} ends at {offset + length}, the file at {size}")


def require_aligned(offset: int, *, unit: int, what: str) -> None:
    if offset % unit:
        raise refusal("unaligned", f"{what} at byte {offset} is not aligned to {unit} bytes")


def overlapping(what: str, offset: int) -> Exception:
    return refusal("overlap", f"{what} at byte {offset} overlaps other content of the file")


class Units:
    """One byte of memory for each aligned unit (cluster, sector, MiB) of a file: free, or claimed."""

    def __init__(self, *, unit: int, size: int) -> None:
        count = -(-size // unit)
        if count > MAX_UNITS:
            raise refusal("file_size", f"the file has {count} units of {unit} bytes, more than can be checked")
        self.unit, self.size = unit, size
        self.owners = bytearray(count)

    def claim(self, offset: int, length: int, *, what: str, owner: int = 1) -> None:
        """Every unit that [offset, offset+length) touches now belongs to `what`."""
        require_aligned(offset, unit=self.unit, what=what)
        self.claim_touched(offset, length, what=what, owner=owner)

    def claim_touched(self, offset: int, length: int, *, what: str, owner: int = 1) -> None:
        """As `claim`, beginning anywhere."""
        require_inside(offset, length, size=self.size, what=what)
        first, last = offset // self.unit, -(-(offset + length) // self.unit)
        if self.owners.count(0, first, last) != last - first:
            raise overlapping(what, offset)
        self.owners[first:last] = bytes((owner,)) * (last - first)


class Regions:
    """Runs of metadata of any length, none touching another's bytes."""

    def __init__(self, *, size: int) -> None:
        self.size = size
        self._runs: list[tuple[int, int]] = []

    def claim(self, offset: int, length: int, *, what: str) -> None:
        require_inside(offset, length, size=self.size, what=what)
        if self.touches(offset, length):
            raise overlapping(what, offset)
        insort(self._runs, (offset, offset + length))

    def claim_tables(self, offsets: Sequence[int], length: int, *, what: str) -> None:
        """Many tables of one length at once."""
        if not offsets:
            return
        require_inside(max(offsets), length, size=self.size, what=what)
        self._runs.extend((offset, offset + length) for offset in offsets)
        self._runs.sort()
        for (_, end), (begin, _) in pairwise(self._runs):
            if begin < end:
                raise overlapping(what, begin)

    def touches(self, offset: int, length: int) -> bool:
        """Whether a claimed run shares a byte with [offset, offset+length)."""
        after = bisect_left(self._runs, (offset + length, 0))
        return after > 0 and self._runs[after - 1][1] > offset

    def slots(self, length: int) -> set[int]:
        """Numbers of the `length`-byte slots of the file that hold metadata."""
        return {slot for begin, end in self._runs for slot in range(begin // length, -(-end // length))}


class Blocks:
    """Data blocks of one length that may begin at any sector. Two that begin in one slot of that length overlap."""

    def __init__(self, *, length: int, regions: Regions) -> None:
        slots = -(-regions.size // length) + 1
        if slots > MAX_BLOCKS:
            raise refusal("file_size", f"the file has room for {slots} blocks of {length} bytes, too many to check")
        self._length, self._regions = length, regions
        # Where in its slot a block begins, plus one. The last stays zero, so the slot before the first is free too.
        self._begins = array("I", (0,)) * (slots + 2)
        near = regions.slots(length)
        self._near_metadata = near | {slot - 1 for slot in near}

    def claim(self, sector: int, *, needed: int, what: str) -> None:
        """The block from `sector` on, of which only the first `needed` bytes must be in the file."""
        require_inside(sector * SECTOR_SIZE, needed, size=self._regions.size, what=what)
        self._claim((sector,), needed=needed, what=what)

    def claim_whole(self, sectors: Sequence[int], *, what: str) -> None:
        """The blocks from each of `sectors` on; all of their bytes must be in the file."""
        if sectors:
            require_inside(max(sectors) * SECTOR_SIZE, self._length, size=self._regions.size, what=what)
            self._claim(sectors, needed=self._length, what=what)

    def _claim(self, sectors: Sequence[int], *, needed: int, what: str) -> None:
        begins, near_metadata, per_slot = self._begins, self._near_metadata, self._length // SECTOR_SIZE
        for sector in sectors:
            slot = sector // per_slot
            begin = sector - slot * per_slot + 1
            if begins[slot] or begins[slot - 1] > begin or 0 < begins[slot + 1] < begin:
                raise overlapping(what, sector * SECTOR_SIZE)
            if slot in near_metadata and self._regions.touches(sector * SECTOR_SIZE, needed):
                raise overlapping(what, sector * SECTOR_SIZE)
            begins[slot] = begin
