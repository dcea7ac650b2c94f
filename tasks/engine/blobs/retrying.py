"""Patience around any ObjectStore: StoreUnavailable is tried again with growing pauses, for a bounded time.

Refusals and missing objects pass at once. Longer outages are the business of the Prefect task's own retries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tasks.engine.blobs.objects import PAGE_SIZE, ObjectInfo, ObjectStore
from tasks.engine.errors import StoreUnavailable

T = TypeVar("T")

PATIENCE_SECONDS = 8.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


def unrepeated(objects: ObjectStore) -> ObjectStore:
    """The same store for a call that must not be repeated unseen: one that was not answered may still be carried out."""
    return objects.inner if isinstance(objects, RetryingObjects) else objects


class RetryingObjects:
    """An ObjectStore that repeats the calls of another until `patience` seconds have passed since the call began."""

    def __init__(self, inner: ObjectStore, *, patience: float = PATIENCE_SECONDS) -> None:
        self._inner = inner
        self._patience = patience

    @property
    def inner(self) -> ObjectStore:
        """The store that is asked."""
        return self._inner

    def ping(self) -> None:
        self._patiently(self._inner.ping)

    def create(self) -> None:
        self._patiently(self._inner.create)

    def put(self, key: str, body: bytes) -> None:
        self._patiently(lambda: self._inner.put(key, body))

    def get(self, key: str, *, limit: int) -> bytes:
        return self._patiently(lambda: self._inner.get(key, limit=limit))

    def stat(self, key: str) -> int:
        return self._patiently(lambda: self._inner.stat(key))

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._inner.delete(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Page by page, so that a page that fails is asked for again and no key is passed over."""
        while page := self._patiently(partial(self._page, prefix, after)):
            yield from page
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> Sequence[ObjectInfo]:
        return tuple(islice(self._inner.list(prefix, after=after), PAGE_SIZE))

    def upload(self, key: str, source: Path) -> None:
        self._patiently(lambda: self._inner.upload(key, source))

    def download(self, key: str, target: Path) -> None:
        self._patiently(lambda: self._inner.download(key, target))

    def presign(self, key: str, *, seconds: int) -> str:
        return self._inner.presign(key, seconds=seconds)

    def _patiently(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except StoreUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
