"""A QCOW2 disk decoded by our own code: plain clusters are read where they lie, compressed ones inflated by the calling thread.

QEMU is left out, and with it its one decompressing thread and a copy through a socket; benchmarks/README.md has the figures.
Images with subclusters go to `qemu_reader`. The gate has walked every table before; a file that changed since is refused here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import zstandard

from tasks.engine.disks import c_qcow2 as c
from tasks.engine.disks.bytesource import FileBytes, FileHolder
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import Finding, Window
from tasks.engine.disks.qcow2 import Compression, read_layout
from tasks.engine.disks.qcow2_tables import read_table
from tasks.engine.geometry import CHUNK_SIZE, SECTOR_SIZE, PendingChunk, chunk_length

MAX_ZSTD_WINDOW = 1 << 27


class Qcow2Reader(FileHolder):
    """A DiskReader over a QCOW2 file without subclusters; reads may come from many threads."""

    def __init__(self, window: Window, finding: Finding) -> None:
        self.virtual_size = finding.virtual_size
        with ExitStack() as stack:
            self._source = stack.enter_context(FileBytes(window))
            self._layout, self._compression = read_layout(self._source)
            if self._layout.virtual_size != finding.virtual_size or self._layout.extended:
                raise refusal("header_mismatch", "the QCOW2 header changed since it was examined")
            self._open = stack.pop_all()

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Chunks that a cluster is allocated for, ascending; one L2 table is in memory at a time."""
        size, per_chunk = self._layout.cluster_size, max(1, CHUNK_SIZE >> self._layout.cluster_bits)
        for first, entries in self._tables():
            for start in range(0, len(entries), per_chunk):
                clusters = entries[start : start + per_chunk]
                if any(map(self._has_data, clusters)):
                    yield from self._chunks(first + start * size, clusters)

    def _tables(self) -> Iterator[tuple[int, Sequence[int]]]:
        """(guest offset, entries) of each L2 table that maps some of the disk, small ones joined to whole chunks."""
        layout = self._layout
        l1 = read_table(self._source, offset=layout.l1_offset, entries=layout.l1_size)
        together = max(1, CHUNK_SIZE // layout.l2_span)
        per_table = layout.cluster_size // 8
        for start in range(0, -(-self.virtual_size // layout.l2_span), together):
            offsets = [entry & c.OFFSET_MASK for entry in l1[start : start + together]]
            if not any(offsets):
                continue
            entries: list[int] = []
            for offset in offsets:
                found = read_table(self._source, offset=offset, entries=per_table) if offset else [0] * per_table
                entries.extend(found)
            yield start * layout.l2_span, entries

    def _chunks(self, offset: int, clusters: Sequence[int]) -> Iterator[PendingChunk]:
        """The chunk that these clusters are, or the chunks of one large cluster."""
        last = min(offset + len(clusters) * self._layout.cluster_size, self.virtual_size)
        for index in range(offset // CHUNK_SIZE, -(-last // CHUNK_SIZE)):
            yield PendingChunk(index, partial(self._read, index, offset, clusters))

    def _has_data(self, entry: int) -> bool:
        if entry & c.L2_COMPRESSED:
            return True
        return bool(entry & c.OFFSET_MASK) and not (self._layout.zero_flag and entry & c.L2_ZERO)

    def _read(self, index: int, offset: int, clusters: Sequence[int]) -> bytes:
        """The raw bytes of chunk `index`, which begins at or behind `offset`, where `clusters` begin."""
        size = self._layout.cluster_size
        skip, length = index * CHUNK_SIZE - offset, chunk_length(index, virtual_size=self.virtual_size)
        if size > CHUNK_SIZE:
            return self._cluster_bytes(clusters[0], skip, length)
        parts: list[bytes] = []
        for start, run in _runs(clusters, size):
            if isinstance(run, int):
                parts.append(self._padded(start, run))
            else:
                parts.append(self._cluster_bytes(run[0], 0, size))
        return b"".join(parts)[:length]

    def _cluster_bytes(self, entry: int, skip: int, length: int) -> bytes:
        """`length` bytes from `skip` of one cluster."""
        if entry & c.L2_COMPRESSED:
            return self._inflated(entry)[skip : skip + length]
        if not self._has_data(entry):
            return bytes(length)
        return self._padded((entry & c.OFFSET_MASK) + skip, length)

    def _padded(self, offset: int, length: int) -> bytes:
        """Bytes of the file; the gate lets the last cluster reach beyond its end, where it reads as zeros."""
        there = max(0, min(length, self._source.size - offset))
        return self._source.pread(offset, there).ljust(length, b"\0")

    def _inflated(self, entry: int) -> bytes:
        """One compressed cluster."""
        shift = 62 - (self._layout.cluster_bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry & (c.L2_COMPRESSED - 1)) >> shift) + 1
        packed = self._source.pread(offset, sectors * SECTOR_SIZE - offset % SECTOR_SIZE)
        try:
            data = _INFLATE[self._compression](packed, self._layout.cluster_size)
        except (zlib.error, zstandard.ZstdError) as error:
            raise refusal("damaged_data", f"a compressed QCOW2 cluster at byte {offset} is damaged: {error}") from error
        if len(data) != self._layout.cluster_size:
            raise refusal("damaged_data", f"a compressed QCOW2 cluster at byte {offset} holds only {len(data)} bytes")
        return data


Run = tuple[int, int | tuple[int]]


def _runs(clusters: Sequence[int], size: int) -> Iterator[Run]:
    """(file offset, length) of neighbours that lie together in the file; anything else as (0, (entry,))."""
    begin = length = 0
    for entry in clusters:
        offset = entry & c.OFFSET_MASK
        plain = bool(offset) and not entry & (c.L2_COMPRESSED | c.L2_ZERO)
        if plain and length and offset == begin + length:
            length += size
            continue
        if length:
            yield begin, length
        begin, length = (offset, size) if plain else (0, 0)
        if not plain:
            yield 0, (entry,)
    if length:
        yield begin, length


def _inflate_zlib(packed: bytes, size: int) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)


def _inflate_zstd(packed: bytes, size: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).stream_reader(io.BytesIO(packed)) as reader:
        return reader.read(size)


_INFLATE = {Compression.ZLIB: _inflate_zlib, Compression.ZSTD: _inflate_zstd}
