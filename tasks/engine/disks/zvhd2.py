"""ZVHD2: every block compressed on its own and found through an index, so it is read in any order.

Footer, index and bitmap are judged in `zvhd2_layout`; structures: `c_zvhd`; writing: `zvhd_writer`.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import zstandard

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks import zvhd_records as records
from tasks.engine.disks.bytesource import ByteSource, Depth, FileBytes, FileHolder
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.zvhd2_layout import Layout, compare_bitmap, indexed, read_header, read_layout
from tasks.engine.errors import DiskRefused
from tasks.engine.geometry import PendingChunk


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """Judge header and footer (`start`: the header alone); `full` compares every record with index and bitmap too."""
    if depth == "start":
        return Finding(DiskFormat.ZVHD2, read_header(source, max_virtual_size=max_virtual_size).orig_size)
    layout = read_layout(source, max_virtual_size=max_virtual_size)
    if depth == "full":
        compare_bitmap(source, layout)
    return Finding(DiskFormat.ZVHD2, layout.virtual_size)


class Zvhd2Reader(FileHolder):
    """A DiskReader over a ZVHD2 file that `examine` found: a chunk's read decodes its block in the calling thread."""

    def __init__(self, window: Window, finding: Finding) -> None:
        self.virtual_size = finding.virtual_size
        with ExitStack() as stack:
            self._source = stack.enter_context(FileBytes(window))
            self._layout = read_layout(self._source, max_virtual_size=self.virtual_size)
            self._open = stack.pop_all()

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Every chunk of every stored block. The chunks of a block share one decoding while each is read once."""
        block_size = self._layout.extension.block_size
        for place in indexed(self._source, self._layout):
            indices = records.chunk_indices(place.block, block_size=block_size, virtual_size=self.virtual_size)
            shared = _SharedBlock(self._source, place, self._layout, readers=len(indices))
            yield from (PendingChunk(index, partial(shared.chunk, index)) for index in indices)


class _SharedBlock:
    """One block, decoded at the first read of one of its chunks and forgotten after as many reads as it has chunks."""

    def __init__(self, source: ByteSource, place: records.Place, layout: Layout, *, readers: int) -> None:
        self._source, self._place, self._layout, self._readers = source, place, layout, readers
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._left = 0

    def chunk(self, index: int) -> bytes:
        with self._lock:
            if self._data is None:
                self._data, self._left = self._decode(), self._readers
            data, self._left = self._data, self._left - 1
            if self._left == 0:
                self._data = None
        return records.chunk_of(data, index, block=self._place.block, virtual_size=self._layout.virtual_size)

    def _decode(self) -> bytes:
        extension, block = self._layout.extension, self._place.block
        compressed = records.payload(self._source, self._place)
        decode = _inflate if extension.compress_method == c.COMPRESS_ZLIB else _unzstd
        data = decode(compressed, block=block, block_size=extension.block_size)
        size = self._layout.virtual_size
        return records.check_block(data, block=block, block_size=extension.block_size, virtual_size=size)


def _inflate(compressed: bytes, *, block: int, block_size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, block_size + 1)
    except zlib.error as error:
        raise DiskRefused("damaged_block", f"block {block} does not inflate: {error}") from error


def _unzstd(compressed: bytes, *, block: int, block_size: int) -> bytes:
    """One frame; its header's claim is judged first, because the decoder allocates whatever it claims."""
    try:
        claimed = zstandard.get_frame_parameters(compressed).content_size
        if claimed not in (block_size, zstandard.CONTENTSIZE_UNKNOWN):
            reason = "inflate_limit" if claimed > block_size else "damaged_block"
            raise DiskRefused(reason, f"block {block} claims {claimed} bytes instead of {block_size}")
        if claimed == block_size:
            return zstandard.ZstdDecompressor().decompress(compressed, allow_extra_data=False)
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(compressed) as reader:
            return reader.read(block_size + 1)
    except zstandard.ZstdError as error:
        raise DiskRefused("damaged_block", f"block {block} does not decompress: {error}") from error
