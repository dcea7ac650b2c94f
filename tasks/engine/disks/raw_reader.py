"""Reads a raw disk straight from its file: holes of the file are holes of the disk. No other program sees the bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from tasks.engine.disks.bytesource import FileBytes, FileHolder
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import Finding, Window
from tasks.engine.errors import HostUnavailable
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of


class RawReader(FileHolder):
    """A DiskReader over a window of a regular file."""

    def __init__(self, window: Window, finding: Finding) -> None:
        self._window, self.virtual_size = window, finding.virtual_size
        with ExitStack() as stack:
            self._bytes = stack.enter_context(FileBytes(window))
            if self._bytes.size != self.virtual_size:
                raise refusal("truncated", f"the file has {self._bytes.size} bytes where {self.virtual_size} were found before")
            self._open = stack.pop_all()

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Chunks that the file stores anything of, ascending."""
        return (PendingChunk(index, partial(self.read_chunk, index)) for index in chunks_of(self.extents()))

    def extents(self) -> Iterator[Extent]:
        """Data runs of the file, relative to the window."""
        return file_extents(self._window, size=self.virtual_size)

    def read_chunk(self, index: int) -> bytes:
        """The raw bytes of chunk `index`; may be called by many threads at once."""
        try:
            return self._bytes.pread(index * CHUNK_SIZE, chunk_length(index, virtual_size=self.virtual_size))
        except OSError as error:
            raise HostUnavailable("disk_read", f"cannot read {self._window.path}: {error.strerror}") from error


def file_extents(window: Window, *, size: int) -> Iterator[Extent]:
    """Runs of the window's first `size` bytes that its file stores, by SEEK_DATA; offsets relative to the window."""
    descriptor = os.open(window.path, os.O_RDONLY | os.O_CLOEXEC)
    end = window.offset + size
    try:
        position = window.offset
        while (start := _next_data(descriptor, position)) < end:
            position = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
            yield Extent(start - window.offset, position - start)
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, position: int) -> int:
    """Where the next data begins; the end of the file, or beyond, where none follows."""
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return max(position, os.fstat(descriptor).st_size)
