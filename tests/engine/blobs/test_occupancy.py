"""How many chunks a bucket holds, counted and estimated."""

from __future__ import annotations

import hashlib
from itertools import count

import pytest

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.occupancy import Occupancy, occupancy


def filled(bucket: ObjectStore, chunks: int) -> ObjectStore:
    for number in range(chunks):
        name = hashlib.sha256(str(number).encode()).hexdigest()
        bucket.put(f"chunks/{name[:2]}/{name}", bytes(10 + number % 5))
    bucket.put("manifests/" + "a" * 64, bytes(999))
    return bucket


@pytest.mark.parametrize("chunks", [0, 7, 999, 1000, 1001, 2500])
def test_chunks_of_a_small_bucket_are_counted(chunks: int) -> None:
    bytes_ = sum(10 + number % 5 for number in range(chunks))
    assert occupancy(filled(MemoryObjects(), chunks)) == Occupancy(chunks, bytes_, exact=True)


def test_chunks_of_a_large_bucket_are_estimated_from_a_part() -> None:
    told = occupancy(filled(MemoryObjects(), 30_000), most=3000)
    assert told.exact is False
    assert told.chunks == pytest.approx(30_000, rel=0.06)
    assert told.bytes == pytest.approx(360_000, rel=0.06)


def test_listing_ends_when_time_is_up() -> None:
    ticks = count()
    told = occupancy(filled(MemoryObjects(), 5000), seconds=2, clock=lambda: float(next(ticks)))
    assert told.exact is False
    assert told.chunks == pytest.approx(5000, rel=0.1)


@pytest.mark.server
def test_a_real_bucket_is_counted(s3_bucket: ObjectStore) -> None:
    assert occupancy(filled(s3_bucket, 30)) == Occupancy(30, 360, exact=True)
