"""Manifests: canonical bytes, a parser that takes nothing else, fast lookup, and a full terabyte within its bounds."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.blobs.chunks import chunk_digest
from tasks.engine.blobs.manifest import (
    HEADER,
    MAGIC,
    MAX_VIRTUAL_SIZE,
    VERSION,
    Manifest,
    ManifestDraft,
    largest_manifest,
    manifest_of,
)
from tasks.engine.blobs.manifests import get_manifest, manifest_key, put_manifest
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import Missing
from tasks.engine.errors import Damaged
from tasks.engine.geometry import CHUNK_SIZE

ENTRIES = {index: chunk_digest(str(index).encode()) for index in (0, 1, 2, 7, 9, 10, 63)}
SIZE = 64 * CHUNK_SIZE - 512
SMALL = manifest_of(SIZE, ENTRIES.items())

indices = st.sets(st.integers(0, 63)).map(sorted)


@given(indices)
def test_manifest_comes_back_from_its_bytes(chosen: list[int]) -> None:
    entries = {index: chunk_digest(bytes([index])) for index in chosen}
    parsed = Manifest.parse(manifest_of(SIZE, entries.items()).to_bytes())
    assert dict(parsed.entries()) == entries
    assert [parsed.digest_at(index) for index in range(-1, 65)] == [entries.get(index) for index in range(-1, 65)]
    assert (len(parsed), parsed.virtual_size) == (len(entries), SIZE)


def test_bytes_are_as_documented() -> None:
    digest = chunk_digest(b"x")
    raw = manifest_of(5 * CHUNK_SIZE, [(1, digest), (2, digest), (4, digest)]).to_bytes()
    header = struct.pack("<8sIIQQQ", b"IMSDISK\0", 1, 1 << 20, 5 << 20, 2, 3)
    assert raw == header + struct.pack("<4I", 1, 2, 4, 1) + digest * 3


def test_same_content_has_the_same_digest_in_whatever_order_it_was_filled() -> None:
    draft = ManifestDraft(SIZE)
    places = {index: draft.take(index) for index in range(64)}  # the others turn out to be zeros
    for index in sorted(ENTRIES, reverse=True):
        draft.fill(places[index], ENTRIES[index])
    assert draft.finish().digest == SMALL.digest


def test_draft_refuses_disorder() -> None:
    draft = ManifestDraft(SIZE)
    draft.take(5)
    for index in (5, 4, 64):
        with pytest.raises(ValueError, match="out of order"):
            draft.take(index)


def changed(offset: int, form: str, value: int) -> bytes:
    raw = bytearray(SMALL.to_bytes())
    struct.pack_into(form, raw, offset, value)
    return bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        SMALL.to_bytes()[:39],
        SMALL.to_bytes()[:-1],
        SMALL.to_bytes() + b"\0",
        changed(0, "<B", 0),
        changed(8, "<I", VERSION + 1),
        changed(12, "<I", CHUNK_SIZE * 2),
        changed(16, "<Q", 0),
        changed(16, "<Q", 63 * CHUNK_SIZE),
        changed(16, "<Q", 1 << 63),
        changed(24, "<Q", 1 << 60),
        changed(32, "<Q", 1 << 60),
        changed(40, "<I", 4),
        changed(44, "<I", 0),
        changed(44, "<I", 7),
        changed(44, "<I", 0xFFFFFFFF),
        changed(48, "<I", 3),
        changed(48, "<I", 0),
    ],
)
def test_parser_takes_nothing_malformed(raw: bytes) -> None:
    with pytest.raises(Damaged):
        Manifest.parse(raw)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: SMALL.to_bytes()[:16] + tail))
def test_parser_survives_any_bytes(raw: bytes) -> None:
    try:
        parsed = Manifest.parse(raw)
    except Damaged:
        return
    assert parsed.to_bytes() == raw


@given(st.data())
def test_parser_survives_flipped_bytes(data: st.DataObject) -> None:
    raw = bytearray(SMALL.to_bytes())
    raw[data.draw(st.integers(0, HEADER.size + 32 - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parsed = Manifest.parse(bytes(raw))
    except Damaged:
        return
    assert parsed.to_bytes() == bytes(raw)


def test_stored_manifest_comes_back() -> None:
    objects = MemoryObjects()
    digest = put_manifest(objects, SMALL)
    assert digest == put_manifest(objects, SMALL) == SMALL.digest
    assert get_manifest(objects, digest) == SMALL
    assert [info.key for info in objects.list("")] == [f"manifests/{digest}"]


def test_manifest_that_is_another_is_damaged() -> None:
    objects = MemoryObjects()
    objects.put(manifest_key(SMALL.digest), manifest_of(SIZE, []).to_bytes())
    with pytest.raises(Damaged, match=SMALL.digest):
        get_manifest(objects, SMALL.digest)


def test_absent_manifest_is_missing() -> None:
    with pytest.raises(Missing):
        get_manifest(MemoryObjects(), SMALL.digest)


def test_largest_manifest_bounds_every_disk() -> None:
    every_other = manifest_of(SIZE, ((index, chunk_digest(b"x")) for index in range(0, 64, 2)))
    every_one = manifest_of(SIZE, ((index, chunk_digest(b"x")) for index in range(64)))
    assert max(len(every_one.to_bytes()), len(every_other.to_bytes())) <= largest_manifest(SIZE)
    assert largest_manifest(MAX_VIRTUAL_SIZE) < 1 << 30


def full_terabyte(*, run_length: int) -> bytes:
    """The manifest of 1 TiB whose runs have `run_length` chunks and a gap of one, or no gap where it is all of them."""
    slots = (1 << 40) // CHUNK_SIZE
    runs = [part for first in range(0, slots, run_length + 1) for part in (first, min(run_length, slots - first))]
    count = sum(runs[1::2])
    header = HEADER.pack(MAGIC, VERSION, CHUNK_SIZE, 1 << 40, len(runs) // 2, count)
    return header + array("I", runs).tobytes() + random.Random(1).randbytes(32 * count)


@pytest.mark.parametrize("run_length", [1 << 20, 1], ids=["full", "every other chunk"])
def test_terabyte_loads_in_a_second_and_100_megabytes(run_length: int) -> None:
    objects = MemoryObjects()
    digest = put_manifest(objects, Manifest.parse(full_terabyte(run_length=run_length)))
    began = time.perf_counter()
    manifest = get_manifest(objects, digest)
    seconds = time.perf_counter() - began
    assert bytes(manifest.digest_at(1 << 19) or b"") in full_terabyte(run_length=run_length)
    tracemalloc.start()
    get_manifest(objects, digest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 100 << 20
