"""QCOW version 1: unencrypted, without a backing file. Its layout is in `c_qcow`; version 2 and 3 are in `qcow2`."""

from __future__ import annotations

import struct
from array import array

from tasks.engine.disks import c_qcow as c
from tasks.engine.disks.bytesource import ByteSource, Depth
from tasks.engine.disks.claims import Units, overlapping, require_aligned, require_inside, require_walkable
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.qcow2_tables import read_table
from tasks.engine.disks.sizes import require_virtual_size
from tasks.engine.geometry import SECTOR_SIZE

_METADATA, _DATA, _COMPRESSED = 1, 2, 3


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """The finding for a QCOW file; raises DiskRefused."""
    header = _read_header(source)
    require_virtual_size(header.size, maximum=max_virtual_size)
    require_aligned(header.size, unit=SECTOR_SIZE, what="the end of the virtual disk")
    if depth != "start":
        tables = _Tables(source, header)
        if depth == "full":
            tables.check_clusters()
    return Finding(DiskFormat.QCOW, header.size)


def _read_header(source: ByteSource) -> c.Header:
    header = c.Header(*struct.unpack(c.HEADER, source.pread(0, c.HEADER_LENGTH)))
    if header.backing_file_offset or header.backing_file_size:
        raise refusal("backing_file", "the QCOW image depends on a backing file")
    if header.crypt_method:
        raise refusal("encrypted", f"the QCOW image is encrypted (method {header.crypt_method})")
    if not c.MIN_CLUSTER_BITS <= header.cluster_bits <= c.MAX_CLUSTER_BITS:
        raise refusal("cluster_size", f"QCOW clusters of 2^{header.cluster_bits} bytes are not allowed")
    if not c.MIN_L2_BITS <= header.l2_bits <= c.MAX_L2_BITS:
        raise refusal("table_size", f"QCOW L2 tables of 2^{header.l2_bits} entries are not allowed")
    return header


class _Tables:
    """Every cluster serves once; compressed runs may begin anywhere and share clusters among themselves."""

    def __init__(self, source: ByteSource, header: c.Header) -> None:
        self._source, self._header = source, header
        self._cluster_size, self._l2_entries = 1 << header.cluster_bits, 1 << header.l2_bits
        entries = -(-header.size // (self._cluster_size * self._l2_entries))
        if entries * 8 > c.MAX_L1_BYTES:
            raise refusal("table_size", f"the QCOW L1 table would have {entries} entries")
        require_inside(header.l1_table_offset, entries * 8, size=source.size, what="the L1 table")
        self._l1 = read_table(source, offset=header.l1_table_offset, entries=entries)
        for offset in self._l1:
            if offset:
                require_inside(offset, self._l2_entries * 8, size=source.size, what="an L2 table")

    def check_clusters(self) -> None:
        require_walkable(sum(1 for offset in self._l1 if offset) * self._l2_entries)
        units = self._metadata()
        for index, offset in enumerate(self._l1):
            if offset:
                table = read_table(self._source, offset=offset, entries=self._l2_entries)
                self._check_table(table, units, index * self._l2_entries * self._cluster_size)

    def _metadata(self) -> Units:
        """Sectors that header and tables use; tables may begin anywhere, sharing their sector with each other."""
        units = Units(unit=SECTOR_SIZE, size=self._source.size)
        l1_offset, l1_length = self._header.l1_table_offset, len(self._l1) * 8
        if l1_offset == c.HEADER_LENGTH:
            units.claim_touched(0, c.HEADER_LENGTH + l1_length, what="the QCOW header", owner=_METADATA)
        else:
            units.claim_touched(0, c.HEADER_LENGTH, what="the QCOW header", owner=_METADATA)
            units.claim_touched(l1_offset, l1_length, what="the L1 table", owner=_METADATA)
        for offset in self._l1:
            if offset:
                units.claim(offset, self._l2_entries * 8, what="an L2 table", owner=_METADATA)
        return units

    def _check_table(self, table: array[int], units: Units, guest: int) -> None:
        compressed = [entry for entry in table if entry & c.COMPRESSED]
        if len(set(compressed)) != len(compressed):
            raise refusal("overlap", "two QCOW clusters share one compressed run")
        for entry in compressed:
            self._claim_compressed(entry, units)
        for index, entry in enumerate(table):
            if entry and not entry & c.COMPRESSED:
                visible = max(self._header.size - guest - index * self._cluster_size, 1)
                units.claim(entry, min(self._cluster_size, visible), what="a cluster", owner=_DATA)

    def _claim_compressed(self, entry: int, units: Units) -> None:
        shift = 63 - self._header.cluster_bits
        offset, length = entry & ((1 << shift) - 1), (entry >> shift) & (self._cluster_size - 1)
        if not length:
            raise refusal("bad_entry", "a compressed QCOW cluster has no content")
        require_inside(offset, length, size=units.size, what="a compressed cluster")
        first, last = offset // SECTOR_SIZE, (offset + length - 1) // SECTOR_SIZE + 1
        taken = units.owners[first:last]
        if taken.count(0) + taken.count(_COMPRESSED) != len(taken):
            raise overlapping("a compressed cluster", offset)
        units.owners[first:last] = bytes((_COMPRESSED,)) * len(taken)
