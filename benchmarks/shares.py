"""import.first.limit: what part of this machine's limit the import reaches.

The limit is the same work with nothing in between: reading, hashing, compressing and putting, each measured alone with as
many threads, which keeps the processors busy; together they can take no less than their sum. So here the peer is the bare
machine, the ratio of the sum is the share reached, and the ratios of the stages say what the time is spent on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import zstandard

from benchmarks.embedded_store import empty, fresh_bucket
from benchmarks.importing import THREADS
from benchmarks.imports import Bench, emptied
from benchmarks.reading import open_file
from benchmarks.results import RUNS, Result, median, seconds
from tasks.engine.blobs.chunks import LEVEL
from tasks.engine.blobs.objects import ObjectStore

T = TypeVar("T")
R = TypeVar("R")

STAGES = ("read", "hash", "compress", "put")


def limit(bench: Bench) -> Iterator[Result]:
    """One row for each stage and one for their sum."""
    bucket = fresh_bucket(bench.address)
    chunks = _read(bench)
    bodies = _compress(chunks)
    rounds = [_round(bench, bucket, chunks, bodies) for _ in range(RUNS + 1)][1:]
    for number, stage in enumerate(STAGES):
        yield median(f"import.first.limit.{stage}", [(whole, stages[number]) for whole, stages in rounds], unit="s")
    yield median("import.first.limit", [(whole, sum(stages)) for whole, stages in rounds], unit="s")


def _round(bench: Bench, bucket: ObjectStore, chunks: list[bytes], bodies: list[bytes]) -> tuple[float, list[float]]:
    """Seconds of the import, and of each stage alone."""
    whole = emptied(bucket, bench.disk)
    empty(bucket)
    return whole, [
        seconds(lambda: _read(bench)),
        seconds(lambda: _each(lambda raw: hashlib.sha256(raw).digest(), chunks)),
        seconds(lambda: _compress(chunks)),
        seconds(lambda: _each(lambda named: bucket.put(f"chunks/{named[0]:08}", named[1]), enumerate(bodies))),
    ]


def _read(bench: Bench) -> list[bytes]:
    with open_file(bench.disk) as reader:
        return _each(lambda pending: pending.read(), reader.pending_chunks())


def _compress(chunks: list[bytes]) -> list[bytes]:
    return _each(lambda raw: zstandard.ZstdCompressor(level=LEVEL).compress(raw), chunks)


def _each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))
