"""Chunks: every kind of body comes back as it was, and no other body does."""

from __future__ import annotations

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.blobs.chunks import ChunkStore, chunk_digest, chunk_key
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import Missing
from tasks.engine.errors import Damaged
from tasks.engine.geometry import CHUNK_SIZE

TEXT = b"compressible " * 1000
NOISE = os.urandom(4096)
FRAMED_NOISE = zstandard.FRAME_HEADER + NOISE


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def store(objects: MemoryObjects) -> ChunkStore:
    return ChunkStore(objects)


@pytest.mark.parametrize("raw", [b"", b"x", TEXT, NOISE, FRAMED_NOISE, zstandard.FRAME_HEADER, os.urandom(CHUNK_SIZE)])
def test_chunk_of_any_kind_comes_back(store: ChunkStore, raw: bytes) -> None:
    digest = chunk_digest(raw)
    size = store.put(digest, raw)
    assert store.get(digest) == raw
    assert store.present([digest]) == {digest: size}


@given(st.binary(max_size=600).map(lambda tail: zstandard.FRAME_HEADER + tail) | st.binary(max_size=600))
def test_any_bytes_come_back(raw: bytes) -> None:
    store = ChunkStore(MemoryObjects())
    store.put(chunk_digest(raw), raw)
    assert store.get(chunk_digest(raw)) == raw


def test_body_is_the_smaller_of_frame_and_raw(store: ChunkStore, objects: MemoryObjects) -> None:
    for raw, framed in ((TEXT, True), (NOISE, False), (FRAMED_NOISE, True)):
        store.put(chunk_digest(raw), raw)
        body = objects.get(chunk_key(chunk_digest(raw)), limit=CHUNK_SIZE)
        assert (body != raw) is framed


def test_key_is_the_digest_under_its_first_two_digits() -> None:
    assert chunk_key(chunk_digest(b"abc")) == ("chunks/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_present_leaves_absent_ones_out(store: ChunkStore) -> None:
    here, absent = chunk_digest(TEXT), chunk_digest(NOISE)
    size = store.put(here, TEXT)
    assert store.present([here, absent]) == {here: size}


def test_absent_chunk_is_missing(store: ChunkStore) -> None:
    with pytest.raises(Missing, match=chunk_digest(TEXT).hex()):
        store.get(chunk_digest(TEXT))


@pytest.mark.parametrize(
    "body",
    [
        b"other bytes",
        zstandard.compress(b"other bytes"),
        zstandard.compress(TEXT)[:-1],
        zstandard.compress(TEXT) + b"x",
        zstandard.FRAME_HEADER,
        zstandard.compress(bytes(CHUNK_SIZE + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 30)),
        bytes(CHUNK_SIZE + 2048),
    ],
    ids=["other", "other frame", "cut", "trailing", "magic", "too long", "bomb without size", "too long as is"],
)
def test_body_that_is_not_the_chunk_is_damaged(store: ChunkStore, objects: MemoryObjects, body: bytes) -> None:
    digest = chunk_digest(TEXT)
    objects.put(chunk_key(digest), body)
    with pytest.raises(Damaged, match=digest.hex()):
        store.get(digest)
