"""Where the header gate reads from: a window of a local file, or the decompressed first bytes of one. It never writes.

Decompression itself is in `wrappers`; what the bytes mean is in the module of each format.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import Literal, Protocol, Self

from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import Window
from tasks.engine.errors import DiskRefused

Depth = Literal["start", "headers", "full"]
"""How much the gate reads: the first structures; headers and top-level tables, in under 2 s; every mapping table."""


class BeyondPrefix(Exception):
    """Internal: the answer lies in bytes that are not decompressed yet. It never leaves the gate and its wrappers."""


class ByteSource(Protocol):
    """Random access to one disk image file."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`; raises DiskRefused('truncated') where the file ends before."""
        ...


def truncated(*, end: int, size: int) -> DiskRefused:
    """The refusal for a file whose structures reach byte `end` although it has only `size` bytes."""
    return refusal("truncated", f"the file ends at byte {size} but its structures reach byte {end}")


class FileBytes:
    """A window of a regular file, opened read-only; use as a context manager. Symbolic links are the caller's choice."""

    def __init__(self, window: Window) -> None:
        # O_NONBLOCK: opening a pipe must not wait for somebody to write to it.
        self._descriptor = os.open(window.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._offset, self._size = _bounds(window, os.fstat(self._descriptor))
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def size(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise truncated(end=offset + length, size=self._size)
        data = os.pread(self._descriptor, length, self._offset + offset)
        while len(data) < length:
            more = os.pread(self._descriptor, length - len(data), self._offset + offset + len(data))
            if not more:
                raise truncated(end=offset + length, size=offset + len(data))
            data += more
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FileHolder:
    """Base of the readers over one file: what `_open` holds stays open until the reader is closed."""

    _open: ExitStack

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _bounds(window: Window, status: os.stat_result) -> tuple[int, int]:
    """Offset and size of the window within the open file."""
    if not stat.S_ISREG(status.st_mode):
        raise refusal("not_a_file", f"{window.path} is not a regular file")
    if window.offset < 0:
        raise ValueError(f"a window cannot begin at {window.offset}")
    size = status.st_size - window.offset if window.size < 0 else window.size
    if size < 0 or window.offset + size > status.st_size:
        raise truncated(end=window.offset + max(size, 0), size=status.st_size)
    return window.offset, size


class PrefixBytes:
    """The first bytes of a file still inside a compression wrapper; a read beyond them raises BeyondPrefix."""

    def __init__(self, data: bytes, *, complete: bool = False) -> None:
        """`complete`: `data` is the whole file, so its end is known."""
        self._data = memoryview(data)
        self.complete = complete

    @property
    def size(self) -> int:
        if not self.complete:
            raise BeyondPrefix
        return len(self._data)

    def pread(self, offset: int, length: int) -> bytes:
        end = offset + length
        if offset < 0 or length < 0 or (self.complete and end > len(self._data)):
            raise truncated(end=end, size=len(self._data))
        if end > len(self._data):
            raise BeyondPrefix
        return bytes(self._data[offset:end])
