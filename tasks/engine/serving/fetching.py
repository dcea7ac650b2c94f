"""Chunks for many readers at once: from the cache, else from the store, each fetched once however many wait for it.

The store's side is any object with `get(digest) -> raw bytes, verified` (`tasks.engine.blobs.chunks.ChunkStore`).
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from tasks.engine.blobs.chunks import ChunkDigest
from tasks.engine.serving.cache import ChunkCache


class ChunkSource(Protocol):
    """Where absent chunks come from. `get` verifies; it raises Damaged or StoreUnavailable."""

    def get(self, digest: ChunkDigest) -> bytes: ...


@dataclass(slots=True)
class FetchCounts:
    """Since the server started; bytes are raw chunk bytes."""

    fetched_chunks: int = 0
    fetched_bytes: int = 0
    filled_chunks: int = 0
    hits: int = 0
    failures: int = 0


class ChunkFetcher:
    """Reads through the cache and coalesces concurrent reads of one chunk into one fetch, or one verified file read."""

    def __init__(self, source: ChunkSource, cache: ChunkCache) -> None:
        self._source = source
        self.cache = cache
        self.counts = FetchCounts()
        self._lock = threading.Lock()
        self._flights: dict[ChunkDigest, Future[bytes]] = {}
        self._last_demand = 0.0

    def get(self, digest: ChunkDigest, *, filling: bool = False) -> bytes:
        """Raw bytes of one chunk; `filling` marks background work that no guest waits for."""
        if not filling:
            self._last_demand = time.monotonic()
        if (raw := self.cache.recall(digest)) is not None:
            self.counts.hits += 1
            return raw
        with self._lock:
            flight = self._flights.get(digest)
            leads = flight is None
            if flight is None:
                flight = self._flights[digest] = Future()
        if leads:
            self._fly(digest, flight, filling=filling)
        return flight.result()

    def idle_seconds(self) -> float:
        """How long no guest has asked for a chunk."""
        return time.monotonic() - self._last_demand

    def _fly(self, digest: ChunkDigest, flight: Future[bytes], *, filling: bool) -> None:
        try:
            if (raw := self.cache.get(digest)) is not None:
                self.counts.hits += 1
            else:
                raw = self._source.get(digest)
                self._count(raw, filling=filling)
                self.cache.put(digest, raw)
        except BaseException as error:  # noqa: BLE001  # handed to every waiter, who raises it
            self.counts.failures += 1
            flight.set_exception(error)
        else:
            flight.set_result(raw)
        finally:
            with self._lock:
                self._flights.pop(digest, None)

    def _count(self, raw: bytes, *, filling: bool) -> None:
        with self._lock:
            self.counts.fetched_chunks += 1
            self.counts.fetched_bytes += len(raw)
            self.counts.filled_chunks += filling
