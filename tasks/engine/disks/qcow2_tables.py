"""QCOW2 tables: L1, L2, refcounts, snapshots, and every cluster they name. Reading the header is in `qcow2`.

No cluster may serve twice in the active state, so a file can neither lie about its size nor give out its metadata as data.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tasks.engine.disks import c_qcow2 as c
from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.disks.claims import Units, overlapping, require_aligned, require_inside, require_walkable
from tasks.engine.disks.codes import refusal
from tasks.engine.geometry import SECTOR_SIZE

_METADATA, _DATA, _COMPRESSED = 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the header says about the tables; offsets and lengths in bytes, sizes in entries."""

    virtual_size: int
    cluster_bits: int
    extended: bool
    zero_flag: bool
    l1_offset: int
    l1_size: int
    refcount_offset: int
    refcount_length: int
    snapshots: int
    snapshots_offset: int
    bitmaps_offset: int
    bitmaps_length: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_span(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.cluster_size * (self.cluster_size // (16 if self.extended else 8))


def check_tables(source: ByteSource, layout: Layout, *, full: bool) -> None:
    """Top-level tables are whole, inside the file and apart from each other; with `full`, so is all they lead to."""
    _check_table_sizes(layout)
    tables = _Tables(source, layout)
    tables.claim_top_level()
    if full:
        tables.check_refcount_blocks()
        tables.check_clusters()


def _check_table_sizes(layout: Layout) -> None:
    needed = -(-layout.virtual_size // layout.l2_span)
    if layout.l1_size < needed or layout.l1_size * 8 > c.MAX_L1_BYTES:
        raise refusal("table_size", f"the QCOW2 L1 table has {layout.l1_size} entries, the disk needs {needed}")
    if not 0 < layout.refcount_length <= c.MAX_REFCOUNT_TABLE_BYTES:
        raise refusal("table_size", f"the QCOW2 refcount table claims {layout.refcount_length} bytes")
    if layout.snapshots > c.MAX_SNAPSHOTS:
        raise refusal("snapshots", f"the QCOW2 image claims {layout.snapshots} internal snapshots")


def read_table(source: ByteSource, *, offset: int, entries: int) -> array[int]:
    """`entries` big-endian 64-bit numbers."""
    table = array("Q", source.pread(offset, entries * 8))
    if sys.byteorder == "little":
        table.byteswap()
    return table


class _Tables:
    def __init__(self, source: ByteSource, layout: Layout) -> None:
        self._source, self._layout = source, layout
        self._units = Units(unit=layout.cluster_size, size=source.size)

    def claim_top_level(self) -> None:
        layout = self._layout
        self._units.claim_touched(0, c.HEADER_V2_LENGTH, what="the QCOW2 header")
        self._claim(layout.l1_offset, layout.l1_size * 8, what="the L1 table")
        self._claim(layout.refcount_offset, layout.refcount_length, what="the refcount table")
        if layout.bitmaps_length:
            self._claim(layout.bitmaps_offset, layout.bitmaps_length, what="the bitmap directory")
        require_aligned(layout.snapshots_offset, unit=layout.cluster_size, what="the snapshot table")
        if layout.snapshots:
            self._claim_snapshots()
        self._check_l1()

    def _claim(self, offset: int, length: int, *, what: str) -> None:
        self._units.claim(offset, length, what=what, owner=_METADATA)

    def _claim_snapshots(self) -> None:
        """The snapshot table and each snapshot's L1 table; the clusters they share with the active state are not walked."""
        begin = offset = self._layout.snapshots_offset
        for _ in range(self._layout.snapshots):
            require_inside(offset, c.SNAPSHOT_HEADER_LENGTH, size=self._source.size, what="the snapshot table")
            l1_offset, l1_size, id_size, name_size, *_, extra_size = struct.unpack(
                c.SNAPSHOT_HEADER, self._source.pread(offset, c.SNAPSHOT_HEADER_LENGTH)
            )
            offset += -(-(c.SNAPSHOT_HEADER_LENGTH + extra_size + id_size + name_size) // 8) * 8
            too_long = offset - begin > c.MAX_SNAPSHOT_TABLE_BYTES or l1_size * 8 > c.MAX_L1_BYTES
            if too_long or extra_size > c.MAX_SNAPSHOT_EXTRA_BYTES:
                raise refusal("snapshots", "the QCOW2 snapshot table is larger than any writer makes it")
            if l1_size:
                self._claim(l1_offset, l1_size * 8, what="a snapshot's L1 table")
        self._claim(begin, offset - begin, what="the snapshot table")

    @cached_property
    def _l1(self) -> array[int]:
        return read_table(self._source, offset=self._layout.l1_offset, entries=self._layout.l1_size)

    def _check_l1(self) -> None:
        """Every L2 table is named by a clean entry and is inside the file."""
        size, in_cluster = self._source.size, self._layout.cluster_size - 1
        for entry in self._l1:
            if entry & c.L1_RESERVED:
                raise refusal("bad_entry", f"a QCOW2 L1 entry has reserved bits set ({entry:#x})")
            offset = entry & c.OFFSET_MASK
            if offset & in_cluster:
                require_aligned(offset, unit=in_cluster + 1, what="an L2 table")
            if offset and offset + in_cluster >= size:
                require_inside(offset, in_cluster + 1, size=size, what="an L2 table")

    def check_refcount_blocks(self) -> None:
        layout = self._layout
        for entry in read_table(self._source, offset=layout.refcount_offset, entries=layout.refcount_length // 8):
            if entry & c.REFCOUNT_TABLE_RESERVED:
                raise refusal("bad_entry", f"a QCOW2 refcount table entry has reserved bits set ({entry:#x})")
            if entry:
                self._claim(entry, layout.cluster_size, what="a refcount block")

    def check_clusters(self) -> None:
        """All L2 tables are claimed before any data, so that data never hides in one."""
        require_walkable(sum(1 for _ in self._l2_tables()) * self._layout.l2_span // self._layout.cluster_size)
        for _, offset in self._l2_tables():
            self._claim(offset, self._layout.cluster_size, what="an L2 table")
        walk = _Walk(self._layout, self._units)
        for guest, offset in self._l2_tables():
            if guest < self._layout.virtual_size:
                walk.check(self._source.pread(offset, self._layout.cluster_size), guest)

    def _l2_tables(self) -> Iterator[tuple[int, int]]:
        """Guest offset and file offset of each L2 table."""
        for index, entry in enumerate(self._l1):
            if offset := entry & c.OFFSET_MASK:
                yield index * self._layout.l2_span, offset


class _Walk:
    """Claims every cluster that L2 tables name."""

    def __init__(self, layout: Layout, units: Units) -> None:
        self._layout, self._units = layout, units
        self._last_whole = units.size - layout.cluster_size
        self._reserved = self._repeated(c.L2_RESERVED if layout.zero_flag else c.L2_RESERVED | c.L2_ZERO)
        self._compressed = self._repeated(c.L2_COMPRESSED)
        self._empty = bytes(layout.cluster_size)

    def _repeated(self, bits: int) -> int:
        """`bits` of every entry of a table, as one number: one operation then tests a whole table."""
        word = struct.pack(">Q", bits) + (b"\0" * 8 if self._layout.extended else b"")
        return int.from_bytes(word * (self._layout.cluster_size // len(word)), "big")

    def check(self, table: bytes, guest: int) -> None:
        """`table` is one L2 table, which maps the disk from `guest` on."""
        if table == self._empty:
            return
        entries = array("Q", table)
        if sys.byteorder == "little":
            entries.byteswap()
        clusters = entries[::2] if self._layout.extended else entries
        bits = int.from_bytes(table, "big")
        if bits & self._compressed:
            self._check_compressed([entry for entry in clusters if entry & c.L2_COMPRESSED])
            bits = self._plain_bits(clusters)
        if bits & self._reserved:
            raise refusal("bad_entry", "a QCOW2 L2 entry has reserved bits set")
        self._check_plain(clusters, guest)
        if self._layout.extended:
            self._check_subclusters(entries, guest)

    def _plain_bits(self, clusters: array[int]) -> int:
        bits = 0
        for entry in clusters:
            if not entry & c.L2_COMPRESSED:
                bits |= entry
        return bits << 64 if self._layout.extended else bits

    def _check_plain(self, clusters: array[int], guest: int) -> None:
        owners, bits, in_cluster = self._units.owners, self._layout.cluster_bits, self._layout.cluster_size - 1
        for index, entry in enumerate(clusters):
            if entry < c.LEAST_OFFSET or entry & c.L2_COMPRESSED:
                continue
            offset = entry & c.OFFSET_MASK
            if not offset:
                continue
            if offset & in_cluster:
                require_aligned(offset, unit=in_cluster + 1, what="a cluster")
            if offset > self._last_whole:
                self._require_tail(offset, entry, guest + (index << bits))
            number = offset >> bits
            if owners[number]:
                raise overlapping("a cluster", offset)
            owners[number] = _DATA

    def _require_tail(self, offset: int, entry: int, guest: int) -> None:
        """The file may end inside its last cluster, but not before what the guest can see of it."""
        layout = self._layout
        needed = min(layout.cluster_size, max(layout.virtual_size - guest, 1))
        only_marked = layout.extended or entry & c.L2_ZERO
        require_inside(offset, 1 if only_marked else needed, size=self._units.size, what="a cluster")

    def _check_compressed(self, entries: list[int]) -> None:
        shift = 62 - (self._layout.cluster_bits - 8)
        if len(set(entries)) != len(entries):
            raise refusal("overlap", "two QCOW2 clusters share one compressed run")
        for entry in entries:
            offset = entry & ((1 << shift) - 1)
            sectors = ((entry & (c.L2_COMPRESSED - 1)) >> shift) + 1
            end = offset - offset % SECTOR_SIZE + sectors * SECTOR_SIZE
            require_inside(offset, end - offset, size=self._units.size, what="a compressed cluster")
            self._claim_compressed(offset >> self._layout.cluster_bits, (end - 1) >> self._layout.cluster_bits, offset)

    def _claim_compressed(self, first: int, last: int, offset: int) -> None:
        owners = self._units.owners
        for number in range(first, last + 1):
            if owners[number] not in (0, _COMPRESSED):
                raise overlapping("a compressed cluster", offset)
            owners[number] = _COMPRESSED

    def _check_subclusters(self, entries: array[int], guest: int) -> None:
        """Extended L2: no subcluster is both data and zero, and all data is inside the file."""
        layout, span = self._layout, self._layout.cluster_size // c.SUBCLUSTERS
        for index in range(0, len(entries), 2):
            entry, bitmap = entries[index], entries[index + 1]
            if not bitmap or entry & c.L2_COMPRESSED:
                continue
            present, zero = bitmap & 0xFFFFFFFF, bitmap >> 32
            offset = entry & c.OFFSET_MASK
            if present & zero or (present and not offset):
                raise refusal("bad_entry", "a QCOW2 subcluster is marked as data and zero, or as data without a place")
            if offset > self._last_whole and present:
                visible = max(layout.virtual_size - guest - (index // 2 << layout.cluster_bits), 1)
                needed = min(present.bit_length() * span, visible)
                require_inside(offset, needed, size=self._units.size, what="a subcluster")
