"""Presence: right answers whatever the store's size, and few calls for them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import pytest

from tasks.engine.blobs.chunks import CHUNK_PREFIX, ChunkDigest, chunk_key
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectInfo
from tasks.engine.blobs.presence import Presence


class Counting(MemoryObjects):
    """Counts what is asked; its listings come from a table sorted once."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        for number in range(chunks):
            self.put(key_of(number), b"x")
        self._table = tuple(super().list(""))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self.calls["list"] += 1
        return (info for info in self._table if info.key.startswith(prefix) and info.key > after)

    def stat(self, key: str) -> int:
        self.calls["stat"] += 1
        return super().stat(key)


def key_of(number: int) -> str:
    return chunk_key(ChunkDigest(hashlib.sha256(str(number).encode()).digest()))


@pytest.mark.parametrize("chunks", [0, 1, 999, 1000, 1001, 3000])
def test_answers_are_right_for_any_size(chunks: int) -> None:
    presence = Presence(Counting(chunks), prefix=CHUNK_PREFIX)
    asked = range(0, chunks + 500, 3)
    assert [presence.size(key_of(number)) for number in asked] == [1 if n < chunks else None for n in asked]


def test_small_store_is_known_after_one_call() -> None:
    objects = Counting(900)
    presence = Presence(objects, prefix=CHUNK_PREFIX)
    for number in range(2000):
        presence.size(key_of(number))
    assert objects.calls == {"list": 1}


def test_small_disk_in_a_larger_store_asks_singly() -> None:
    objects = Counting(5000)
    presence = Presence(objects, prefix=CHUNK_PREFIX)
    for number in range(100):
        presence.size(key_of(number))
    assert objects.calls["list"] == 1
    assert objects.calls["stat"] <= 100


def test_large_disk_in_a_larger_store_goes_over_to_folders() -> None:
    objects = Counting(5000)
    presence = Presence(objects, prefix=CHUNK_PREFIX)
    for number in range(5000):
        presence.size(key_of(number))
    assert objects.calls["list"] <= 257
    assert objects.calls["stat"] < 1000
