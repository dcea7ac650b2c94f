"""A disk file opened for a measurement: through qemu-nbd and libnbd where it is a qcow2, directly where it is raw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import nbd

from tasks.engine.geometry import CHUNK_SIZE, DiskReader, Extent, PendingChunk, chunk_length, chunks_of

CONNECTIONS = 4
MAP_STEP = 1 << 30


def open_file(disk: Path) -> DiskReader:
    """A reader chosen by the file's suffix."""
    return _Raw(disk) if disk.suffix == ".raw" else _Nbd(disk)


class _Reader:
    virtual_size: int

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for index in chunks_of(self._extents()):
            length = chunk_length(index, virtual_size=self.virtual_size)
            yield PendingChunk(index, partial(self._read, index * CHUNK_SIZE, length))

    def _extents(self) -> Iterator[Extent]:
        raise NotImplementedError

    def _read(self, offset: int, length: int) -> bytes:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Raw(_Reader):
    def __init__(self, disk: Path) -> None:
        self._file = os.open(disk, os.O_RDONLY)
        self.virtual_size = os.fstat(self._file).st_size

    def _extents(self) -> Iterator[Extent]:
        position = 0
        while position < self.virtual_size:
            try:
                first = os.lseek(self._file, position, os.SEEK_DATA)
            except OSError:
                return
            position = os.lseek(self._file, first, os.SEEK_HOLE)
            yield Extent(first, position - first)

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def close(self) -> None:
        os.close(self._file)


class _Nbd(_Reader):
    def __init__(self, disk: Path) -> None:
        self._map = self._connect(disk)
        self.virtual_size = self._map.get_size()
        self._idle: SimpleQueue[nbd.NBD] = SimpleQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(self._connect(disk))

    def _connect(self, disk: Path) -> nbd.NBD:
        handle = nbd.NBD()
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        handle.connect_systemd_socket_activation(["qemu-nbd", "-r", "-f", "qcow2", str(disk)])
        return handle

    def _extents(self) -> Iterator[Extent]:
        found: list[Extent] = []
        for start in range(0, self.virtual_size, MAP_STEP):
            position = start
            while position < min(start + MAP_STEP, self.virtual_size):
                entries: list[int] = []
                self._map.block_status(
                    min(start + MAP_STEP, self.virtual_size) - position,
                    position,
                    lambda _context, _offset, pairs, _error, entries=entries: entries.extend(pairs),
                )
                for length, flags in zip(entries[0::2], entries[1::2], strict=True):
                    if not flags & nbd.STATE_ZERO:
                        found.append(Extent(position, length))
                    position += length
        return iter(found)

    def _read(self, offset: int, length: int) -> bytes:
        handle = self._idle.get()
        try:
            return bytes(handle.pread(length, offset))
        finally:
            self._idle.put(handle)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().shutdown()
        self._map.shutdown()
