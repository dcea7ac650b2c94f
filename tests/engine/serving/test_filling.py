"""Background fill: it fetches the rest, yields, keeps to the cache's free space and survives a failing store."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from tasks.engine.blobs.chunks import ChunkDigest, chunk_digest
from tasks.engine.blobs.manifest import Manifest, manifest_of
from tasks.engine.errors import StoreUnavailable
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.serving.cache import ChunkCache
from tasks.engine.serving.fetching import ChunkFetcher
from tasks.engine.serving.filling import Filler, request_fill

PIECES = [random.Random(seed).randbytes(CHUNK_SIZE) for seed in range(6)]
DISK = manifest_of(6 * CHUNK_SIZE, [(index, chunk_digest(raw)) for index, raw in enumerate(PIECES)])


class Source(dict[ChunkDigest, bytes]):
    """A store that can go away."""

    down = False

    def get(self, digest: ChunkDigest) -> bytes:  # type: ignore[override]
        if self.down:
            raise StoreUnavailable("gone")
        return self[digest]


def open_disk(_digest: str) -> Manifest:
    return DISK


def wait_until(condition: Callable[[], bool], *, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def filler(folder: Path, *, capacity: int) -> tuple[Filler, ChunkFetcher, Source]:
    source = Source({chunk_digest(raw): raw for raw in PIECES})
    fetcher = ChunkFetcher(source, ChunkCache(folder / "cache", capacity=capacity, memory=0))
    (folder / "fill").mkdir()
    return Filler(folder / "fill", fetcher, open_disk), fetcher, source


def test_fill_brings_the_whole_disk_and_takes_the_request_away(tmp_path: Path) -> None:
    worker, fetcher, _ = filler(tmp_path, capacity=1 << 30)
    request_fill(tmp_path / "fill", "d")
    worker.start()
    assert wait_until(lambda: not list((tmp_path / "fill").iterdir()))
    worker.stop()
    assert fetcher.cache.used_bytes == 6 * CHUNK_SIZE
    assert fetcher.counts.filled_chunks == 6


def test_fill_never_evicts(tmp_path: Path) -> None:
    worker, fetcher, _ = filler(tmp_path, capacity=3 * CHUNK_SIZE)
    fetcher.cache.put(chunk_digest(b"in use"), b"in use")
    request_fill(tmp_path / "fill", "d")
    worker.start()
    assert wait_until(lambda: not list((tmp_path / "fill").iterdir()))
    worker.stop()
    assert chunk_digest(b"in use") in fetcher.cache
    assert fetcher.cache.used_bytes == 2 * CHUNK_SIZE + 6


def test_fill_keeps_the_request_while_the_store_is_away(tmp_path: Path) -> None:
    worker, fetcher, source = filler(tmp_path, capacity=1 << 30)
    source.down = True
    request_fill(tmp_path / "fill", "d")
    worker.start()
    assert wait_until(lambda: fetcher.counts.failures > 0)
    assert [path.name for path in (tmp_path / "fill").iterdir()] == ["d"]
    source.down = False
    assert wait_until(lambda: not list((tmp_path / "fill").iterdir()))
    worker.stop()
