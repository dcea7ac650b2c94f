"""A raw disk read by us alone: no decoder, so nothing in it can mislead one. Holes of the file are holes of the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial

from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import Finding, Window
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of


class RawReader(FileBytes):
    """A DiskReader over a window of a file; reads are thread-safe because they carry their own offset."""

    def __init__(self, window: Window, finding: Finding) -> None:
        super().__init__(window)
        self.virtual_size = finding.virtual_size

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for index in chunks_of(self.extents()):
            length = chunk_length(index, virtual_size=self.virtual_size)
            yield PendingChunk(index, partial(self.pread, index * CHUNK_SIZE, length))

    def extents(self) -> Iterator[Extent]:
        """Runs of the window that are not holes of the file, ascending."""
        position, end = self._offset, self._offset + self.virtual_size
        while position < end:
            start = self._seek(position, os.SEEK_DATA)
            if start is None or start >= end:
                return
            position = min(self._seek(start, os.SEEK_HOLE) or end, end)
            yield Extent(start - self._offset, position - start)

    def _seek(self, position: int, whence: int) -> int | None:
        """Where the next data or hole begins; None where there is none."""
        try:
            return os.lseek(self._descriptor, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
