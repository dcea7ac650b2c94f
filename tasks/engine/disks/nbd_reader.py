"""A disk behind an NBD export on a unix socket, read by libnbd: extents first, then whole chunks from several threads.

Each thread has a connection of its own; libnbd's calls give up the interpreter's lock while they wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import nbd

from tasks.engine.errors import HostUnavailable, ImsError
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of

BASE_ALLOCATION = "base:allocation"
STATE_ZERO = 2
"""Bit of base:allocation that says: reads as zeros (NBD protocol, "base" metadata context)."""
STEP = 1 << 30
"""Bytes that one block-status request asks about."""


class NbdReader:
    """A DiskReader over `export` at `socket`. Failures are `refusal(words)`, by default the host's NBD server's fault."""

    def __init__(self, socket: Path, export: str = "") -> None:
        self._socket = socket
        self._export = export
        self._local = threading.local()
        self._handles: list[Any] = []
        self._lock = threading.Lock()
        self.virtual_size: int = self._call(lambda handle: handle.get_size())

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for index in chunks_of(self.extents()):
            yield PendingChunk(index, lambda index=index: self.read_chunk(index))  # type: ignore[misc]  # bound now

    def extents(self) -> Iterator[Extent]:
        """Runs that may hold data, ascending."""
        position = 0
        while position < self.virtual_size:
            runs = self._block_status(position, min(STEP, self.virtual_size - position))
            if not runs:
                raise self.failure("the NBD server tells no extents")
            for length, flags in runs:
                if not flags & STATE_ZERO:
                    yield Extent(position, min(length, self.virtual_size - position))
                position += length

    def read_chunk(self, index: int) -> bytes:
        """The raw bytes of one chunk."""
        length = chunk_length(index, virtual_size=self.virtual_size)
        return bytes(self._call(lambda handle: handle.pread(length, index * CHUNK_SIZE)))

    def failure(self, words: str) -> ImsError:
        """What a failing server is to the caller."""
        return HostUnavailable("nbd_server", f"the NBD server failed: {words}", remedy="See `ims status`, then try again.")

    def close(self) -> None:
        with self._lock:
            handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(nbd.Error):
                handle.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _block_status(self, offset: int, count: int) -> list[tuple[int, int]]:
        """(length, flags) runs from `offset`."""
        runs: list[tuple[int, int]] = []

        def take(context: str, _offset: int, entries: list[int], _error: Any) -> int:
            if context == BASE_ALLOCATION:
                runs.extend(zip(entries[0::2], entries[1::2], strict=True))
            return 0

        self._call(lambda handle: handle.block_status(count, offset, take))
        return runs

    def _call(self, action: Any) -> Any:
        try:
            return action(self._handle())
        except nbd.Error as error:
            raise self.failure(" ".join(str(error).split())[:300]) from error

    def _handle(self) -> Any:
        """This thread's connection."""
        handle = getattr(self._local, "handle", None)
        if handle is None:
            handle = nbd.NBD()
            handle.add_meta_context(BASE_ALLOCATION)
            handle.set_export_name(self._export)
            handle.connect_unix(str(self._socket))
            self._local.handle = handle
            with self._lock:
                self._handles.append(handle)
        return handle
