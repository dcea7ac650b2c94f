"""The chunks of a disk out of the store, verified and in order, with a bounded number ahead. The way in is `pipeline.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tasks.engine.blobs.chunks import ChunkDigest, ChunkStore
from tasks.engine.blobs.manifest import Manifest
from tasks.engine.errors import Damaged
from tasks.engine.geometry import chunk_length

CHUNKS_AHEAD = 4
"""Chunks in memory per thread: enough that none waits for the reader, little enough to count in megabytes."""


def fetch(manifest: Manifest, store: ChunkStore, *, threads: int) -> Iterator[tuple[int, bytes]]:
    """(index, raw bytes) of every chunk, ascending. Raises Missing or Damaged at the first chunk that is not as named."""
    executor = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    ahead: deque[Future[tuple[int, bytes]]] = deque()
    try:
        for index, digest in manifest.entries():
            length = chunk_length(index, virtual_size=manifest.virtual_size)
            ahead.append(executor.submit(_fetch_one, store, index, digest, length))
            if len(ahead) >= threads * CHUNKS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _fetch_one(store: ChunkStore, index: int, digest: ChunkDigest, length: int) -> tuple[int, bytes]:
    raw = store.get(digest)
    if len(raw) != length:
        raise Damaged(f"chunk {digest.hex()} has {len(raw)} bytes where the disk has {length} at chunk {index}")
    return index, raw
