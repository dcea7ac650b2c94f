"""The units that disks and blobs agree on: chunk, extent, disk reader. No I/O happens here.

A chunk is CHUNK_SIZE guest-visible bytes, aligned; docs/adr/0001-chunk-size.md says why 1 MiB and one object each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import NamedTuple, Protocol, Self

SECTOR_SIZE = 512
CHUNK_SIZE = 1 << 20


class Extent(NamedTuple):
    """A run of guest-visible bytes that may hold data: offset and length in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PendingChunk:
    """A chunk not read yet: its index, and a thread-safe call that gives its raw bytes (CHUNK_SIZE, the last one shorter)."""

    index: int
    read: Callable[[], bytes]


class DiskReader(Protocol):
    """The content of one virtual disk, whatever file holds it. Use as a context manager; close ends its child processes."""

    virtual_size: int

    def pending_chunks(self) -> Iterator[PendingChunk]:
        """Chunks that may hold data, ascending by index; holes are omitted. Raises DiskRefused when the file lies."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def with_tail(extents: Iterator[Extent], *, base_size: int, virtual_size: int) -> Iterator[Extent]:
    """The extents in which a disk of `virtual_size` bytes may differ from the smaller one it grew from, given those in which
    it was written to: where the smaller one ended within a chunk, that chunk is longer now."""
    grown = virtual_size > base_size and base_size % CHUNK_SIZE
    return merge(extents, [Extent(base_size, 1)]) if grown else extents


def chunk_length(index: int, *, virtual_size: int) -> int:
    """Length in bytes of chunk `index` of a disk of `virtual_size` bytes."""
    return min(CHUNK_SIZE, virtual_size - index * CHUNK_SIZE)


def chunks_of(extents: Iterator[Extent]) -> Iterator[int]:
    """Indices of the chunks that ascending, non-overlapping extents touch, each once, ascending."""
    following = 0
    for extent in extents:
        if extent.length <= 0:
            continue
        first = max(following, extent.offset // CHUNK_SIZE)
        following = max(following, (extent.offset + extent.length - 1) // CHUNK_SIZE + 1)
        yield from range(first, following)
