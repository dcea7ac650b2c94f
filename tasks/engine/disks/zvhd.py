"""ZVHD: one zlib stream cut into records, so it is read from front to back. Structures: `c_zvhd`; writing: `zvhd_writer`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tasks.engine.disks import c_zvhd as c
from tasks.engine.disks import zvhd_records as records
from tasks.engine.disks.bytesource import ByteSource, Depth, FileBytes, FileHolder
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.errors import DiskRefused
from tasks.engine.geometry import PendingChunk


def examine(source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding:
    """Judge header and footer (`start`: the header alone); `full` walks every record header too. Nothing is inflated."""
    page = records.header_page(source, cookie=c.COOKIE_ZVHD)
    header = records.check_header(page, used=c.HEADER_END, max_virtual_size=max_virtual_size)
    finding = Finding(DiskFormat.ZVHD, header.orig_size)
    if depth == "start":
        return finding
    if records.footer_page(source, cookie=c.COOKIE_ZVHD) != page:
        raise DiskRefused("header_mismatch", "header and footer disagree", remedy=records.EXPORT_AGAIN)
    if depth == "full":
        for _ in records.walk(source, limits=_limits(source, header.orig_size)):
            pass
    return finding


class ZvhdReader(FileHolder):
    """A DiskReader over a ZVHD file that `examine` found: decodes one block at a time in the iterating thread."""

    def __init__(self, window: Window, finding: Finding) -> None:
        self.virtual_size = finding.virtual_size
        self._open = ExitStack()
        self._source = self._open.enter_context(FileBytes(window))

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Chunks that are not zero; their bytes are already decoded, so a caller that keeps many keeps their memory."""
        inflater = zlib.decompressobj()
        for place in records.walk(self._source, limits=_limits(self._source, self.virtual_size)):
            data = _inflate(inflater, records.payload(self._source, place), place.block)
            records.check_block(data, block=place.block, block_size=c.BLOCK_SIZE, virtual_size=self.virtual_size)
            yield from self._chunks(data, place.block)

    def _chunks(self, data: bytes, block: int) -> Iterator[PendingChunk]:
        for index in records.chunk_indices(block, block_size=c.BLOCK_SIZE, virtual_size=self.virtual_size):
            chunk = records.chunk_of(data, index, block=block, virtual_size=self.virtual_size)
            if chunk != bytes(len(chunk)):
                yield PendingChunk(index, partial(bytes, chunk))


def _limits(source: ByteSource, virtual_size: int) -> records.Limits:
    return records.Limits(-(-virtual_size // c.BLOCK_SIZE), c.BLOCK_SIZE, source.size - c.PAGE)


def _inflate(inflater: zlib._Decompress, data: bytes, block: int) -> bytes:
    """Feed one record to the stream; it ends with a flush, so it gives its whole block at once."""
    try:
        return inflater.decompress(data, c.BLOCK_SIZE + 1)
    except zlib.error as error:
        raise DiskRefused("damaged_block", f"block {block} does not inflate: {error}") from error
