"""A disk that grew from a stored one: read where it changed it is the same as read whole, and nothing stored is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.engine.blobs.chunks import ChunkStore, chunk_digest
from tasks.engine.blobs.heritage import Heritage
from tasks.engine.blobs.keeping import Uncollected
from tasks.engine.blobs.manifest import manifest_of
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectInfo
from tasks.engine.blobs.pipeline import Ingested, ingest
from tasks.engine.errors import DiskRefused
from tasks.engine.geometry import CHUNK_SIZE, Extent, PendingChunk, chunk_length, chunks_of, with_tail

KINDS = st.integers(0, 4)
"""What fills a chunk; 0 is zeros. So few that equal chunks and holes are frequent."""
TAILS = st.sampled_from((0, 512, 1536, CHUNK_SIZE - 512))
GROWTHS = st.sampled_from((0, 0, 512, CHUNK_SIZE - 512, CHUNK_SIZE, 2 * CHUNK_SIZE - 1024))
A, B, C = (chunk_digest(name) for name in (b"a", b"b", b"c"))


@dataclass
class Disk:
    """A DiskReader over chunks that are each filled with one kind; hands out those of `pending`."""

    kinds: list[int]
    virtual_size: int
    pending: set[int] = field(default_factory=set)
    failing: int = -1

    def whole(self) -> Disk:
        return replace(self, pending=set(range(len(self.kinds))))

    def pending_chunks(self) -> Iterator[PendingChunk]:
        return (PendingChunk(index, partial(self.read, index)) for index in sorted(self.pending))

    def read(self, index: int) -> bytes:
        if index == self.failing:
            raise DiskRefused("unreadable", "no more")
        return filled(self.kinds[index], chunk_length(index, virtual_size=self.virtual_size))

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class CountingObjects(MemoryObjects):
    """Remembers every key that was put."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    def put(self, key: str, body: bytes) -> None:
        self.puts.append(key)
        super().put(key, body)


@cache
def filled(kind: int, length: int) -> bytes:
    """Content that takes the more room in the store the higher its kind."""
    pattern = random.Random(kind).randbytes(kind * 997) or b"\0"
    return (pattern * (length // len(pattern) + 1))[:length]


def disk_of(kinds: list[int], *, size: int = 0) -> Disk:
    """A disk of whole chunks, or of `size` bytes, with zeros behind what `kinds` tells."""
    size = size or len(kinds) * CHUNK_SIZE
    return Disk(kinds + [0] * (-(-size // CHUNK_SIZE) - len(kinds)), size)


def changed(parent: Disk, kinds: dict[int, int], *, growth: int = 0) -> Disk:
    """The parent grown and written to at the places of `kinds`; hands out what a record of those writes names."""
    child = disk_of(parent.kinds, size=parent.virtual_size + growth)
    for index, kind in kinds.items():
        child.kinds[index] = kind
    written = (Extent(index * CHUNK_SIZE, 1) for index in sorted(kinds))
    named = with_tail(written, base_size=parent.virtual_size, virtual_size=child.virtual_size)
    return replace(child, pending=set(chunks_of(named)))


@st.composite
def families(draw: st.DrawFn) -> tuple[Disk, Disk]:
    """A parent and a child: chunks overwritten, zeroed, moved elsewhere, or called changed and still the same."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=6))
    parent = disk_of(kinds, size=len(kinds) * CHUNK_SIZE - draw(TAILS))
    growth = draw(GROWTHS)
    slots = -(-(parent.virtual_size + growth) // CHUNK_SIZE)
    written = draw(st.dictionaries(st.integers(0, slots - 1), KINDS | st.sampled_from(kinds)))
    return parent, changed(parent, written, growth=growth)


def stored(parent: Disk, child: Disk, store: ChunkStore, *, threads: int = 2) -> tuple[Ingested, Ingested]:
    """The parent whole, then the child over it."""
    first = ingest(parent.whole(), store, Uncollected(), threads=threads)
    return first, ingest(
        child, store, Uncollected(), threads=threads, parent=get_manifest(store.objects, first.manifest_digest)
    )


def chunk_keys(objects: MemoryObjects) -> set[str]:
    return {info.key for info in objects.list("chunks/")}


@settings(deadline=None, max_examples=150)
@given(families(), st.sampled_from((1, 3)))
@example((disk_of([1, 2]), changed(disk_of([1, 2]), {0: 2, 1: 1})), 1)  # swapped: nothing new at all
@example((disk_of([1, 1]), changed(disk_of([1, 1]), {1: 0})), 1)  # one of two equal chunks goes, its bytes stay
def test_read_where_changed_is_the_same_as_read_whole(family: tuple[Disk, Disk], threads: int) -> None:
    parent, child = family
    first, over = stored(parent, child, ChunkStore(MemoryObjects()), threads=threads)
    whole = ingest(child.whole(), ChunkStore(MemoryObjects()), Uncollected(), threads=threads)
    assert over.manifest_digest == whole.manifest_digest
    assert first.stored_bytes + over.stored_bytes == whole.stored_bytes
    assert (over.chunks, over.data_bytes, over.virtual_size) == (whole.chunks, whole.data_bytes, whole.virtual_size)


@settings(deadline=None, max_examples=100)
@given(families())
def test_inherited_chunks_and_those_read_add_up(family: tuple[Disk, Disk]) -> None:
    parent, child = family
    _, over = stored(parent, child, ChunkStore(MemoryObjects()))
    left_alone = [index for index in range(len(parent.kinds)) if parent.kinds[index] and index not in child.pending]
    assert over.inherited_chunks == len(left_alone)
    assert over.chunks - over.inherited_chunks == sum(child.kinds[index] > 0 for index in child.pending)


@settings(deadline=None, max_examples=100)
@given(families())
def test_nothing_that_is_stored_is_put_again(family: tuple[Disk, Disk]) -> None:
    parent, child = family
    objects = CountingObjects()
    ingest(parent.whole(), ChunkStore(objects), Uncollected(), threads=2)
    before, objects.puts = chunk_keys(objects), []
    _, over = stored(parent, child, ChunkStore(objects))
    sent = [key for key in objects.puts if key.startswith("chunks/")]
    assert sorted(sent) == sorted(chunk_keys(objects) - before)
    assert over.new_chunks == len(sent)
    assert over.new_bytes == sum(map(objects.stat, sent))


@given(st.integers(0, 3))
def test_reader_that_fails_leaves_no_manifest(failing: int) -> None:
    store = ChunkStore(MemoryObjects())
    parent = disk_of([1, 2, 3, 4])
    child = replace(changed(parent, {0: 2, 1: 3, 2: 4, 3: 1}), failing=failing)
    with pytest.raises(DiskRefused, match="no more"):
        stored(parent, child, store)
    assert len(list(store.objects.list("manifests/"))) == 1


def test_chunk_that_only_the_parent_vouches_for_is_not_asked_about() -> None:
    class Deaf(MemoryObjects):
        def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
            raise AssertionError(prefix)

    parent = disk_of([1, 2])
    first = ingest(parent.whole(), ChunkStore(MemoryObjects()), Uncollected(), threads=1)
    manifest = manifest_of(parent.virtual_size, [(i, chunk_digest(filled(i + 1, CHUNK_SIZE))) for i in range(2)])
    over = ingest(changed(parent, {0: 1}), ChunkStore(Deaf()), Uncollected(), threads=1, parent=manifest)
    assert (over.manifest_digest, over.new_chunks, over.inherited_chunks) == (first.manifest_digest, 0, 1)


def test_heritage_gives_each_place_once_and_not_those_read_anew() -> None:
    heritage = Heritage(manifest_of(5 * CHUNK_SIZE, [(0, A), (1, B), (2, A), (4, C)]), virtual_size=5 * CHUNK_SIZE)
    given_out = [list(heritage.before(index)) for index in (1, 3, 3, None, None)]
    assert given_out == [[(0, A)], [(2, A)], [], [(4, C)], []]


def test_heritage_of_a_scattered_disk_costs_what_its_places_do() -> None:
    """A hundred thousand changes between as many kept chunks take a tenth of a second; once they took a minute."""
    count = 100_000
    parent = manifest_of(2 * count * CHUNK_SIZE, [(2 * number + 1, A) for number in range(count)])
    heritage, began = Heritage(parent, virtual_size=parent.virtual_size), time.monotonic()
    kept = sum(len(list(heritage.before(index))) for index in [*range(0, 2 * count, 2), None])
    assert (kept, time.monotonic() - began < 10) == (count, True)


def test_heritage_of_nobody_is_empty() -> None:
    heritage = Heritage(None, virtual_size=CHUNK_SIZE)
    assert (list(heritage.before(0)), list(heritage.before(None)), heritage.holds(0, A)) == ([], [], False)


def test_turnover_counts_what_no_place_had_or_has() -> None:
    heritage = Heritage(manifest_of(4 * CHUNK_SIZE, [(0, A), (1, B), (2, B)]), virtual_size=4 * CHUNK_SIZE)
    for index in (0, 1, 3):
        list(heritage.before(index))
    came, left = heritage.turnover(manifest_of(4 * CHUNK_SIZE, [(0, C), (1, C), (2, B), (3, B)]))
    assert (came, left) == ({C}, {A})
