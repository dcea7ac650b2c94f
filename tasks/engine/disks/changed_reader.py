"""Reads what changed on a disk: on a running guest's by the bitmap of its backup, in an overlay file by what it holds itself.

Both are DiskReaders whose pending chunks are those that may differ from a base; everything else is the base's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import nbd

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.errors import HostUnavailable, ImsError
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of, with_tail

BaseChunk = Callable[[int], bytes]
"""The base's raw bytes of the chunk at an index; fewer, or none, where it ends before or reads as zeros."""


class ChangedReader(NbdReader):
    """A DiskReader over one disk of a running backup, of the chunks that its bitmap calls dirty."""

    untold = 1

    def __init__(self, path: Path, *, export: str, context: str, base_size: int) -> None:
        self.context = context
        self._base_size = base_size
        super().__init__(path, export=export)

    def extents(self) -> Iterator[Extent]:
        """Runs that may differ from the base, ascending."""
        return with_tail(super().extents(), base_size=self._base_size, virtual_size=self.virtual_size)

    def _wanted(self, flags: int) -> bool:
        return bool(flags & 1)


class OverlayReader(QemuReader):
    """A DiskReader over a qcow2 overlay that nobody writes to, of the chunks it holds anything of, merged with its base.

    The file is read by caged QEMU, which is not told of any backing file: the base is what `base` gives.
    """

    context = "qemu:allocation-depth"
    export_options = ",allocation-depth=on"
    untold = 1

    def __init__(self, path: Path, *, virtual_size: int, base_size: int, base: BaseChunk) -> None:
        self._base, self._base_size = base, base_size
        super().__init__(Window(path), Finding(DiskFormat.QCOW2, virtual_size))
        try:
            self._held = list(super().extents())
        except BaseException:
            self.close()
            raise
        self._ends = [extent.offset + extent.length for extent in self._held]

    @property
    def held_bytes(self) -> int:
        """What the overlay itself holds."""
        return sum(extent.length for extent in self._held)

    def extents(self) -> Iterator[Extent]:
        """Runs that may differ from the base, ascending."""
        return with_tail(iter(self._held), base_size=self._base_size, virtual_size=self.virtual_size)

    def pending_chunks(self) -> Iterator[PendingChunk]:
        return (PendingChunk(index, partial(self.read_chunk, index)) for index in chunks_of(self.extents()))

    def read_chunk(self, index: int) -> bytes:
        """The raw bytes of chunk `index` as a guest sees them; may be called by many threads at once."""
        start, length = index * CHUNK_SIZE, chunk_length(index, virtual_size=self.virtual_size)
        runs = list(self._runs(start, start + length))
        if sum(end - begin for begin, end in runs) == length:
            return super().read_chunk(index)
        merged = bytearray(self._base(index).ljust(length, b"\0")[:length])
        if runs:
            own = super().read_chunk(index)
            for begin, end in runs:
                merged[begin - start : end - start] = own[begin - start : end - start]
        return bytes(merged)

    def _runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(begin, end) of what the overlay holds between two offsets."""
        place = bisect_right(self._ends, start)
        while place < len(self._held) and self._held[place].offset < end:
            yield max(start, self._held[place].offset), min(end, self._ends[place])
            place += 1

    def _wanted(self, flags: int) -> bool:
        return flags > 0

    def _request_failure(self, error: nbd.Error) -> ImsError:
        failure = super()._request_failure(error)
        if "another process using the image" in failure.message:
            return HostUnavailable("overlay_busy", "a running QEMU has the overlay open", remedy="Is its guest stopped?")
        return failure
