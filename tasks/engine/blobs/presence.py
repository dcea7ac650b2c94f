"""Which chunks of a bucket exist already, asked as seldom as one run allows; docs/adr/0002-chunk-lookup.md says why.

One page of a listing answers for every key up to its last one, and, names being hashes, how far it reaches tells how many
chunks there are. A small store is thus known after one call. In a larger one, chunks are asked for one by one until that
has cost as much as listing would have; then whole folders are listed, unless the store is so large that asking is cheaper.
"""

from __future__ import annotations

import threading
from itertools import islice

from tasks.engine.blobs.objects import PAGE_SIZE, Missing, ObjectStore

FOLDERS = 256
LISTABLE_CHUNKS = FOLDERS * PAGE_SIZE
"""Beyond this a folder needs a second page, and the answers would begin to show in memory."""
ASKS_PER_FOLDER = 2
"""An empty listing costs as much as this many single questions."""
KEYS_PER_ASK = 20
"""Listing this many more keys costs as much as one more single question."""


class _Page:
    """The first page below a prefix: sizes by key, and the last key it can answer for ('' when it holds everything)."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        found = tuple(islice(objects.list(prefix), PAGE_SIZE))
        self._sizes = {info.key: info.size for info in found}
        self._last = found[-1].key if len(found) == PAGE_SIZE else ""

    def answers(self, key: str) -> bool:
        return not self._last or key <= self._last

    def size(self, key: str) -> int | None:
        return self._sizes.get(key)

    def estimate(self) -> int:
        """How many chunks the store holds, from how far into the space of digests this first page reaches."""
        reach = int(self._last.rpartition("/")[2][:16] or "f" * 16, 16) + 1
        return len(self._sizes) * (1 << 64) // reach


class Presence:
    """What was stored when it was asked about, remembered for one run. Safe to share between threads.

    A run that relies on an answer registers before its first question and holds its disk in the end: `keeping.py`.
    What is in `damaged` counts as absent, so that it is sent again.
    """

    def __init__(self, objects: ObjectStore, *, prefix: str, damaged: frozenset[str] = frozenset()) -> None:
        self._objects = objects
        self._prefix = prefix
        self._damaged = damaged
        self._pages: dict[str, _Page] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._asked = 0

    def size(self, key: str) -> int | None:
        """Stored size of chunk `key` in bytes, or None where it is absent."""
        if key in self._damaged:
            return None
        page = self._page(self._prefix)
        if page.answers(key):
            return page.size(key)
        if self._listing_pays(page.estimate()):
            page = self._page(key[: key.rindex("/") + 1])
            if page.answers(key):
                return page.size(key)
        return self._stat(key)

    def _listing_pays(self, chunks: int) -> bool:
        with self._guard:
            self._asked += 1
            return chunks <= LISTABLE_CHUNKS and self._asked > FOLDERS * ASKS_PER_FOLDER + chunks // KEYS_PER_ASK

    def _page(self, prefix: str) -> _Page:
        """The page of `prefix`, listed once however many threads want it."""
        with self._guard:
            lock = self._locks.setdefault(prefix, threading.Lock())
        with lock:
            if prefix not in self._pages:
                self._pages[prefix] = _Page(self._objects, prefix)
            return self._pages[prefix]

    def _stat(self, key: str) -> int | None:
        try:
            return self._objects.stat(key)
        except Missing:
            return None
