"""Chunks by the SHA-256 of their raw bytes, in any ObjectStore: put, get verified, which are present.

A body is one zstd frame, or the raw bytes where those are smaller. Which of the two it is, zstd's own magic number
tells alone: raw bytes that begin with it are always framed. Which chunk belongs where on a disk is told by
`manifest.py`; whether a chunk needs sending, by `presence.py`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from typing import NewType

import zstandard

from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.presence import Presence
from tasks.engine.errors import Damaged
from tasks.engine.geometry import CHUNK_SIZE

ChunkDigest = NewType("ChunkDigest", bytes)
"""SHA-256 of a chunk's raw bytes: 32 bytes."""

LEVEL = 1
CHUNK_PREFIX = "chunks/"
DIGEST_SIZE = hashlib.sha256().digest_size
FRAME_OVERHEAD = 1024
"""More than zstd adds to a megabyte that it cannot compress."""


def chunk_digest(raw: bytes) -> ChunkDigest:
    """The name of a chunk."""
    return ChunkDigest(hashlib.sha256(raw).digest())


def chunk_key(digest: ChunkDigest) -> str:
    """Where a chunk is in its bucket."""
    name = digest.hex()
    return f"{CHUNK_PREFIX}{name[:2]}/{name}"


def pack(raw: bytes, *, compressor: zstandard.ZstdCompressor) -> bytes:
    """The body that stores `raw`."""
    frame = compressor.compress(raw)
    return frame if len(frame) < len(raw) or raw.startswith(zstandard.FRAME_HEADER) else raw


def unpack(body: bytes, *, limit: int, decompressor: zstandard.ZstdDecompressor) -> bytes:
    """What `pack` was given. Raises Damaged before more than `limit` bytes are made of it."""
    if not body.startswith(zstandard.FRAME_HEADER):
        return body
    try:
        declared = zstandard.get_frame_parameters(body).content_size
        if declared > limit:
            raise Damaged(f"a stored frame declares {declared} bytes where at most {limit} can be right")
        return decompressor.decompress(body, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"a stored frame cannot be decompressed: {error}") from error


class ChunkStore:
    """The chunks of one bucket. Safe to share between threads: each thread gets its own zstd contexts."""

    def __init__(self, objects: ObjectStore, *, level: int = LEVEL) -> None:
        self.objects = objects
        self._level = level
        self._contexts = threading.local()

    def put(self, digest: ChunkDigest, raw: bytes) -> int:
        """Store the chunk `raw` of that digest; again is the same. Returns the stored size in bytes."""
        body = pack(raw, compressor=self._compressor())
        self.objects.put(chunk_key(digest), body)
        return len(body)

    def get(self, digest: ChunkDigest) -> bytes:
        """The raw bytes, proved to be the ones named. Raises Missing, or Damaged naming the chunk."""
        body = self.objects.get(chunk_key(digest), limit=CHUNK_SIZE + FRAME_OVERHEAD)
        try:
            raw = unpack(body, limit=CHUNK_SIZE, decompressor=self._decompressor())
        except Damaged as error:
            raise Damaged(f"chunk {digest.hex()} is damaged: {error.message}") from error
        if chunk_digest(raw) != digest:
            raise Damaged(f"chunk {digest.hex()} is damaged: its bytes have another SHA-256")
        return raw

    def present(self, digests: Iterable[ChunkDigest]) -> dict[ChunkDigest, int]:
        """Those of `digests` that are stored, with their stored sizes in bytes."""
        presence = self.presence()
        sizes = ((digest, presence.size(chunk_key(digest))) for digest in digests)
        return {digest: size for digest, size in sizes if size is not None}

    def presence(self, damaged: frozenset[str] = frozenset()) -> Presence:
        """What one run asks before it relies on a stored chunk; not to be kept longer than that run."""
        return Presence(self.objects, prefix=CHUNK_PREFIX, damaged=damaged)

    def _compressor(self) -> zstandard.ZstdCompressor:
        if not hasattr(self._contexts, "compressor"):
            self._contexts.compressor = zstandard.ZstdCompressor(level=self._level)
        compressor: zstandard.ZstdCompressor = self._contexts.compressor
        return compressor

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        if not hasattr(self._contexts, "decompressor"):
            self._contexts.decompressor = zstandard.ZstdDecompressor(max_window_size=CHUNK_SIZE * 8)
        decompressor: zstandard.ZstdDecompressor = self._contexts.decompressor
        return decompressor
