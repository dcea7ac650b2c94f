"""Patience: outages shorter than it pass unseen, longer ones and refusals do not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import pytest

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import PAGE_SIZE, Missing, ObjectInfo
from tasks.engine.blobs.retrying import RetryingObjects
from tasks.engine.errors import StoreUnavailable


class Flaky(MemoryObjects):
    """Fails the first `failures` calls of put and stat, and every listing after its first page."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def put(self, key: str, body: bytes) -> None:
        self._fail()
        super().put(key, body)

    def stat(self, key: str) -> int:
        self._fail()
        return super().stat(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        yield from islice(super().list(prefix, after=after), PAGE_SIZE // 2)
        self._fail()
        yield from islice(super().list(prefix, after=after), PAGE_SIZE // 2, None)

    def _fail(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise StoreUnavailable("down")


def test_short_outage_is_not_seen() -> None:
    inner = Flaky(failures=2)
    RetryingObjects(inner).put("key", b"body")
    assert inner.get("key", limit=4) == b"body"


def test_long_outage_ends_within_patience() -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        RetryingObjects(Flaky(failures=1000), patience=0.5).put("key", b"body")
    assert time.monotonic() - began < 1


def test_missing_is_not_repeated() -> None:
    inner = Flaky(failures=1)
    with pytest.raises(Missing):
        RetryingObjects(inner).stat("absent")
    assert inner.failures == 0


def test_listing_that_breaks_midway_loses_no_key() -> None:
    inner = Flaky(failures=0)
    keys = [f"{number:05}" for number in range(2 * PAGE_SIZE + 3)]
    for key in keys:
        inner.put(key, b"")
    inner.failures = 2
    assert [info.key for info in RetryingObjects(inner).list("")] == keys
