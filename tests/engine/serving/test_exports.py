"""Reads and extents of a disk that is holes, chunks and a short end."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.blobs.chunks import chunk_digest
from tasks.engine.blobs.manifest import manifest_of
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.serving.exports import DiskExport

SIZE = 5 * CHUNK_SIZE + 1536
RANDOM = random.Random(3)
PIECES = {1: RANDOM.randbytes(CHUNK_SIZE), 2: RANDOM.randbytes(CHUNK_SIZE), 5: RANDOM.randbytes(1536)}
CONTENT = b"".join(PIECES.get(index, bytes(CHUNK_SIZE if index < 5 else 1536)) for index in range(6))
BY_DIGEST = {chunk_digest(raw): raw for raw in PIECES.values()}


@pytest.fixture(scope="module")
def export() -> DiskExport:
    entries = [(index, chunk_digest(raw)) for index, raw in PIECES.items()]
    return DiskExport(manifest_of(SIZE, entries), BY_DIGEST.__getitem__)


@given(st.integers(0, SIZE), st.integers(0, 3 * CHUNK_SIZE))
def test_export_reads_what_the_disk_holds(export: DiskExport, offset: int, length: int) -> None:
    length = min(length, SIZE - offset)
    buffer = bytearray(b"\xaa" * length)
    export.read_into(memoryview(buffer), offset)
    assert buffer == CONTENT[offset : offset + length]


def test_export_joins_neighbouring_extents(export: DiskExport) -> None:
    mib = CHUNK_SIZE
    assert list(export.extents(0, SIZE)) == [
        (0, mib, False),
        (mib, 2 * mib, True),
        (3 * mib, 2 * mib, False),
        (5 * mib, 1536, True),
    ]


@given(st.integers(0, SIZE - 1), st.integers(1, SIZE))
def test_export_extents_cover_the_range_and_nothing_else(export: DiskExport, offset: int, length: int) -> None:
    length = min(length, SIZE - offset)
    runs = list(export.extents(offset, length))
    assert runs[0][0] == offset
    assert sum(run[1] for run in runs) == length
    assert all(before[0] + before[1] == after[0] for before, after in itertools.pairwise(runs))
