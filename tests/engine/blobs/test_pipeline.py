"""Ingest and fetch: what goes in comes out, zeros and repeats cost nothing, failures stop all, a rerun sends the rest."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Self

import pytest

from tasks.engine.blobs.chunks import ChunkStore, chunk_digest, chunk_key
from tasks.engine.blobs.fetching import fetch
from tasks.engine.blobs.keeping import Uncollected
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import Missing, ObjectStore
from tasks.engine.blobs.pipeline import Progress, ingest
from tasks.engine.errors import Damaged, DiskRefused, StoreUnavailable
from tasks.engine.geometry import CHUNK_SIZE, PendingChunk

TAIL = 1000


class DictReader:
    """A disk of `chunks` whole chunks and a tail, whose content is a dict; absent chunks are holes."""

    def __init__(self, content: dict[int, bytes], *, chunks: int = 40) -> None:
        self.virtual_size = chunks * CHUNK_SIZE + TAIL
        self.content = content

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for index in sorted(self.content):
            yield PendingChunk(index, self.reading(index))

    def reading(self, index: int) -> Callable[[], bytes]:
        return lambda: self.content[index]

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class FailingObjects(MemoryObjects):
    """Takes `puts` objects, then is gone; `pause` makes each put last."""

    def __init__(self, puts: int, *, pause: float = 0) -> None:
        super().__init__()
        self.puts, self.pause = puts, pause

    def put(self, key: str, body: bytes) -> None:
        time.sleep(self.pause)
        self.puts -= 1
        if self.puts < 0:
            raise StoreUnavailable("gone")
        super().put(key, body)


def content(indices: range, *, seed: int = 0) -> dict[int, bytes]:
    return {index: f"{seed}-{index}".encode().ljust(CHUNK_SIZE, b".") for index in indices}


def workers() -> list[str]:
    """Threads of ingest and fetch that still run; other tests may have left threads of their own."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ingest", "fetch"))]


def stored_chunks(objects: ObjectStore) -> int:
    return len(list(objects.list("chunks/")))


def test_disk_comes_back_as_it_was() -> None:
    disk = {0: os.urandom(CHUNK_SIZE), 7: b"7" * CHUNK_SIZE, 8: os.urandom(CHUNK_SIZE), 40: b"t" * TAIL}
    store = ChunkStore(MemoryObjects())
    done = ingest(DictReader(disk), store, Uncollected(), threads=4)
    manifest = get_manifest(store.objects, done.manifest_digest)
    assert list(fetch(manifest, store, threads=4)) == sorted(disk.items())
    assert (done.chunks, done.new_chunks, done.data_bytes) == (4, 4, 3 * CHUNK_SIZE + TAIL)
    assert done.stored_bytes == done.new_bytes == sum(info.size for info in store.objects.list("chunks/"))


@pytest.mark.server
def test_disk_comes_back_from_a_real_store(s3_bucket: ObjectStore) -> None:
    disk = content(range(20)) | {21: os.urandom(CHUNK_SIZE)}
    store = ChunkStore(s3_bucket)
    done = ingest(DictReader(disk), store, Uncollected(), threads=4)
    again = ingest(DictReader(disk), store, Uncollected(), threads=4)
    assert list(fetch(get_manifest(s3_bucket, done.manifest_digest), store, threads=4)) == sorted(disk.items())
    assert (again.manifest_digest, again.new_chunks, again.new_bytes) == (done.manifest_digest, 0, 0)
    assert again.stored_bytes == done.stored_bytes


def test_zero_chunks_are_absent() -> None:
    store = ChunkStore(MemoryObjects())
    zeros = ingest(DictReader({3: bytes(CHUNK_SIZE), 40: bytes(TAIL)}), store, Uncollected(), threads=2)
    holes = ingest(DictReader({}), store, Uncollected(), threads=2)
    assert zeros.manifest_digest == holes.manifest_digest
    assert (zeros.chunks, zeros.data_bytes, stored_chunks(store.objects)) == (0, 0, 0)


def test_repeated_chunk_is_sent_once() -> None:
    store = ChunkStore(MemoryObjects())
    done = ingest(DictReader(dict.fromkeys(range(30), b"same" * (CHUNK_SIZE // 4))), store, Uncollected(), threads=4)
    assert (done.chunks, done.new_chunks, stored_chunks(store.objects)) == (30, 1, 1)


def test_sibling_sends_only_what_differs() -> None:
    store = ChunkStore(MemoryObjects())
    ingest(DictReader(content(range(40))), store, Uncollected(), threads=4)
    done = ingest(DictReader(content(range(40)) | content(range(5), seed=1)), store, Uncollected(), threads=4)
    assert (done.chunks, done.new_chunks) == (40, 5)


def test_result_does_not_depend_on_threads() -> None:
    results = {ingest(DictReader(content(range(30))), ChunkStore(MemoryObjects()), Uncollected(), threads=n) for n in (1, 2, 8)}
    assert len(results) == 1


def test_failed_put_is_raised_and_nothing_is_half_there() -> None:
    objects = FailingObjects(puts=10)
    with pytest.raises(StoreUnavailable, match="gone"):
        ingest(DictReader(content(range(40))), ChunkStore(objects), Uncollected(), threads=4)
    assert stored_chunks(objects) == 10
    assert list(objects.list("manifests/")) == []
    assert workers() == []


def test_run_again_sends_only_what_is_missing() -> None:
    objects = FailingObjects(puts=10)
    with pytest.raises(StoreUnavailable):
        ingest(DictReader(content(range(40))), ChunkStore(objects), Uncollected(), threads=4)
    objects.puts = 1000
    done = ingest(DictReader(content(range(40))), ChunkStore(objects), Uncollected(), threads=4)
    assert (done.chunks, done.new_chunks) == (40, 30)


def test_reader_that_refuses_midway_stops_the_run() -> None:
    class Lying(DictReader):
        def reading(self, index: int) -> Callable[[], bytes]:
            if index == 5:
                raise DiskRefused("truncated", "the file ends early")
            return super().reading(index)

    objects = MemoryObjects()
    with pytest.raises(DiskRefused, match="ends early"):
        ingest(Lying(content(range(40))), ChunkStore(objects), Uncollected(), threads=4)
    assert stored_chunks(objects) <= 5 + 4


def test_progress_ends_at_the_result() -> None:
    seen: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.position, progress.new_bytes))

    reader = DictReader(content(range(40)))
    done = ingest(reader, ChunkStore(MemoryObjects()), Uncollected(), threads=2, on_progress=note)
    assert seen[-1] == (reader.virtual_size, done.new_bytes)
    assert seen == sorted(seen)


def test_exception_from_progress_cancels() -> None:
    class Cancelled(Exception):
        pass

    def cancel(progress: Progress) -> None:
        raise Cancelled

    objects = FailingObjects(puts=1000, pause=0.2)
    with pytest.raises(Cancelled):
        ingest(DictReader(content(range(40))), ChunkStore(objects), Uncollected(), threads=2, on_progress=cancel)
    assert stored_chunks(objects) < 40
    assert workers() == []


def test_memory_does_not_grow_with_the_disk() -> None:
    class Forgetful(MemoryObjects):
        def put(self, key: str, body: bytes) -> None:
            super().put(key, b"" if key.startswith("chunks/") else body)

    class Endless(DictReader):
        def reading(self, index: int) -> Callable[[], bytes]:
            return lambda: os.urandom(CHUNK_SIZE)

    reader = Endless(dict.fromkeys(range(200), b""), chunks=200)
    tracemalloc.start()
    done = ingest(reader, ChunkStore(Forgetful()), Uncollected(), threads=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert done.data_bytes == 200 * CHUNK_SIZE
    assert peak < 4 * 4 * CHUNK_SIZE


def test_fetch_names_the_chunk_that_is_gone() -> None:
    store = ChunkStore(MemoryObjects())
    done = ingest(DictReader(content(range(10))), store, Uncollected(), threads=2)
    lost = chunk_digest(content(range(10))[4])
    store.objects.delete(chunk_key(lost))
    with pytest.raises(Missing, match=lost.hex()):
        list(fetch(get_manifest(store.objects, done.manifest_digest), store, threads=2))


def test_fetch_refuses_a_chunk_of_another_length() -> None:
    store = ChunkStore(MemoryObjects())
    done = ingest(DictReader({3: b"short"}), store, Uncollected(), threads=1)
    with pytest.raises(Damaged, match="5 bytes"):
        list(fetch(get_manifest(store.objects, done.manifest_digest), store, threads=1))


def test_fetch_left_early_ends_its_threads() -> None:
    store = ChunkStore(MemoryObjects())
    done = ingest(DictReader(content(range(40))), store, Uncollected(), threads=4)
    chunks = fetch(get_manifest(store.objects, done.manifest_digest), store, threads=4)
    assert next(chunks)[0] == 0
    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert workers() == []
