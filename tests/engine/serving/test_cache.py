"""The host's chunk cache: bounded, verified, taken over after a restart."""

from __future__ import annotations

import random
from pathlib import Path

from tasks.engine.blobs.chunks import ChunkDigest, chunk_digest
from tasks.engine.serving.cache import ChunkCache

CHUNKS = [random.Random(seed).randbytes(1000) for seed in range(10)]


def filled(folder: Path, *, capacity: int, memory: int = 0) -> ChunkCache:
    cache = ChunkCache(folder, capacity=capacity, memory=memory)
    for raw in CHUNKS:
        cache.put(chunk_digest(raw), raw)
    return cache


def digests(folder: Path) -> set[ChunkDigest]:
    return {ChunkDigest(bytes.fromhex(path.name)) for path in folder.glob("??/*")}


def test_cache_gives_back_what_was_put(tmp_path: Path) -> None:
    cache = filled(tmp_path, capacity=100_000)
    assert [cache.get(chunk_digest(raw)) for raw in CHUNKS] == CHUNKS
    assert cache.get(chunk_digest(b"other")) is None


def test_cache_keeps_to_its_capacity_and_the_newest(tmp_path: Path) -> None:
    cache = filled(tmp_path, capacity=4000)
    assert cache.used_bytes == 4000
    assert digests(tmp_path) == {chunk_digest(raw) for raw in CHUNKS[-4:]}


def test_cache_evicts_what_was_not_read_lately(tmp_path: Path) -> None:
    cache = filled(tmp_path, capacity=4000)
    assert cache.get(chunk_digest(CHUNKS[6])) == CHUNKS[6]
    cache.put(chunk_digest(b"new"), b"new")
    assert chunk_digest(CHUNKS[6]) in digests(tmp_path)
    assert chunk_digest(CHUNKS[7]) not in digests(tmp_path)


def test_cache_never_serves_a_damaged_file(tmp_path: Path) -> None:
    filled(tmp_path, capacity=100_000)
    digest = chunk_digest(CHUNKS[3])
    path = tmp_path / digest.hex()[:2] / digest.hex()
    path.write_bytes(bytes(1000))
    again = ChunkCache(tmp_path, capacity=100_000)
    assert again.get(digest) is None
    assert not path.exists()
    assert again.used_bytes == 9000


def test_cache_takes_over_files_and_drops_half_written_ones(tmp_path: Path) -> None:
    filled(tmp_path, capacity=100_000)
    draft = tmp_path / "ab" / f"{'ab' * 32}.77.part"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"half")
    again = ChunkCache(tmp_path, capacity=5000)
    assert again.used_bytes == 5000
    assert not draft.exists()


def test_cache_in_memory_is_bounded(tmp_path: Path) -> None:
    cache = filled(tmp_path, capacity=100_000, memory=3000)
    for path in tmp_path.glob("??/*"):
        path.unlink()
    assert sum(cache.get(chunk_digest(raw)) is not None for raw in CHUNKS) == 3
