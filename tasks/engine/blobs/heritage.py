"""What a disk takes over from the stored one it grew from: every chunk that is not read anew. Part of `pipeline`'s ingest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tasks.engine.blobs.chunks import ChunkDigest
from tasks.engine.blobs.manifest import Manifest
from tasks.engine.geometry import CHUNK_SIZE


class Turnover(NamedTuple):
    """Chunks that came to a disk and chunks that left it, each counted once however many places have it."""

    came: set[ChunkDigest]
    left: set[ChunkDigest]


class Heritage:
    """The places of a parent in ascending order; without a parent there are none. Not for several threads at once."""

    def __init__(self, parent: Manifest | None, *, virtual_size: int) -> None:
        self._parent = parent
        self._slots = -(-virtual_size // CHUNK_SIZE)
        self._places = parent.entries() if parent else iter(())
        self._place = next(self._places, None)
        self._renewed: list[int] = []

    def before(self, index: int | None) -> Iterator[tuple[int, ChunkDigest]]:
        """The parent's places up to `index`, which is read anew, or up to the end; each is given once."""
        if index is not None and self._parent is not None:
            self._renewed.append(index)
        end = self._slots if index is None else min(index, self._slots)
        while self._place is not None and self._place[0] < end:
            yield self._place
            self._place = next(self._places, None)
        if self._place is not None and self._place[0] == index:
            self._place = next(self._places, None)

    def holds(self, index: int, digest: ChunkDigest) -> bool:
        """Whether the parent has this very chunk at this place, so that it is known to be stored."""
        return self._parent is not None and self._parent.digest_at(index) == digest

    def turnover(self, child: Manifest) -> Turnover:
        """What the child has that the parent had nowhere, and the other way round, among the chunks read anew."""
        if self._parent is None:
            return Turnover(set(), set())
        came = {digest for index in self._renewed if (digest := child.digest_at(index))}
        left = {digest for index in self._renewed if (digest := self._parent.digest_at(index))}
        came.difference_update(digest for _, digest in self._parent.entries())
        left.difference_update(digest for _, digest in child.entries())
        return Turnover(came, left)
