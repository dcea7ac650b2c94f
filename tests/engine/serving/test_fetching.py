"""Coalesced fetches and what happens to those who wait for one that fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.engine.blobs.chunks import ChunkDigest, chunk_digest
from tasks.engine.errors import StoreUnavailable
from tasks.engine.serving.cache import ChunkCache
from tasks.engine.serving.fetching import ChunkFetcher

RAW = b"chunk" * 1000
DIGEST = chunk_digest(RAW)


class SlowSource:
    """A store whose answer waits until eight readers have asked for it."""

    def __init__(self, *, failing: bool = False) -> None:
        self.asked = 0
        self.failing = failing
        self.release = threading.Event()

    def get(self, digest: ChunkDigest) -> bytes:
        self.asked += 1
        assert self.release.wait(10)
        if self.failing:
            raise StoreUnavailable("gone")
        return RAW


def read_by_eight(source: SlowSource, fetcher: ChunkFetcher) -> list[bytes | BaseException | None]:
    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(fetcher.get, DIGEST) for _ in range(8)]
        threading.Timer(0.2, source.release.set).start()
        return [reader.exception() or reader.result() for reader in readers]


def test_fetcher_asks_the_store_once_for_many_readers(tmp_path: Path) -> None:
    source = SlowSource()
    fetcher = ChunkFetcher(source, ChunkCache(tmp_path, capacity=1 << 20))
    assert read_by_eight(source, fetcher) == [RAW] * 8
    assert (source.asked, fetcher.counts.fetched_chunks) == (1, 1)


def test_fetcher_tells_every_reader_of_a_failure_and_asks_again_later(tmp_path: Path) -> None:
    source = SlowSource(failing=True)
    fetcher = ChunkFetcher(source, ChunkCache(tmp_path, capacity=1 << 20))
    assert {type(outcome) for outcome in read_by_eight(source, fetcher)} == {StoreUnavailable}
    source.failing = False
    assert fetcher.get(DIGEST) == RAW


def test_fetcher_needs_no_store_for_what_is_cached(tmp_path: Path) -> None:
    source = SlowSource(failing=True)
    source.release.set()
    fetcher = ChunkFetcher(source, ChunkCache(tmp_path, capacity=1 << 20))
    fetcher.cache.put(DIGEST, RAW)
    assert fetcher.get(DIGEST) == RAW
    with pytest.raises(StoreUnavailable):
        fetcher.get(chunk_digest(b"absent"))
