"""Reads a disk from an NBD export on a unix socket: a foreign file from `qemu_reader`, a stored disk from the host's server."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import nbd

from tasks.engine.errors import HostUnavailable, ImsError
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of

CONNECTIONS = 8
"""Connections at most; more reading threads than that wait for each other."""
MAP_STEP = 2 << 30
"""Bytes of disk per map request; the protocol's limit is just under 4 GiB."""


class NbdReader:
    """A DiskReader over one NBD export. Each concurrent read has its own connection.

    `context` is the metadata context whose map tells which runs to read; `untold` are the flags of a run where no map is.
    """

    context = nbd.CONTEXT_BASE_ALLOCATION
    untold = 0

    def __init__(self, path: Path, *, export: str = "") -> None:
        self._path, self.export = path, export
        self._idle: queue.LifoQueue[nbd.NBD] = queue.LifoQueue()
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        with self._connection() as first:
            self.virtual_size: int = first.get_size()

    def extents(self) -> Iterator[Extent]:
        """Runs that may hold what is wanted, ascending, from the server's own map."""
        offset = 0
        while offset < self.virtual_size:
            for length, flags in self._map(offset):
                length = min(length, self.virtual_size - offset)
                if self._wanted(flags):
                    yield Extent(offset, length)
                offset += length

    def _wanted(self, flags: int) -> bool:
        """Whether a run with these flags is to be read: here, all that do not surely read as zeros."""
        return not flags & nbd.STATE_ZERO

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Chunks that data extents touch, ascending."""
        return (PendingChunk(index, partial(self.read_chunk, index)) for index in chunks_of(self.extents()))

    def read_chunk(self, index: int) -> bytes:
        """The raw bytes of chunk `index`; may be called by many threads at once."""
        with self._connection() as connection:
            return bytes(connection.pread(chunk_length(index, virtual_size=self.virtual_size), index * CHUNK_SIZE))

    def connect_all(self) -> None:
        """Make all connections now, after which the socket's name is not needed any more."""
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(self._connection())

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection of its own to the same server, to be inherited by a child that asks for `export` itself."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._path))
            except OSError as error:
                raise self._failure(str(error.strerror)) from error
            yield connection

    def close(self) -> None:
        while not self._idle.empty():
            with suppress(nbd.Error):  # the server may be gone
                self._idle.get_nowait().shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _map(self, offset: int) -> list[tuple[int, int]]:
        """Length and flags of the runs from `offset` on, at least one."""
        length = min(MAP_STEP, self.virtual_size - offset)
        runs: list[tuple[int, int]] = []

        def note(_context: str, _offset: int, entries: list[int], _error: int) -> int:
            runs.extend(zip(entries[::2], entries[1::2], strict=True))
            return 0

        with self._connection() as connection:
            if not connection.can_meta_context(self.context):
                return [(length, self.untold)]
            connection.block_status(length, offset, note)
        return runs

    @contextmanager
    def _connection(self) -> Iterator[nbd.NBD]:
        """An idle connection or a new one; one that failed is not used again."""
        with self._room:
            try:
                connection = self._take()
                yield connection
            except nbd.Error as error:
                raise self._request_failure(error) from error
            self._idle.put(connection)

    def _take(self) -> nbd.NBD:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect()

    def _connect(self) -> nbd.NBD:
        connection = nbd.NBD()
        connection.add_meta_context(self.context)
        connection.set_export_name(self.export)
        connection.connect_unix(str(self._path))
        return connection

    def _request_failure(self, error: nbd.Error) -> ImsError:
        """The error that a failed request means."""
        return self._failure(error.string)

    def _failure(self, words: str) -> ImsError:
        return HostUnavailable(
            "nbd",
            f"the NBD server at {self._path} does not serve {self.export or 'its disk'} ({words})",
            remedy="See `ims status`; `ims up` starts what is missing.",
        )
