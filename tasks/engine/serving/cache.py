"""The host's chunk cache: raw chunks in files named by their digest, bounded, least recently used goes first.

It holds nothing that the store does not; a missing or damaged file only costs a fetch. One process writes a cache folder
at a time (the host's NBD server). Fetching what is absent is in `tasks.engine.serving.fetching`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path

from tasks.engine.blobs.chunks import ChunkDigest, chunk_digest

MEMORY_BYTES = 64 << 20
DIGEST_NAME = re.compile(r"[0-9a-f]{64}")


class ChunkCache:
    """Verified raw chunks by digest, in memory (MEMORY_BYTES) over files (`capacity` bytes). Thread-safe."""

    def __init__(self, folder: Path, *, capacity: int, memory: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self.capacity = capacity
        self._memory_capacity = memory
        self._lock = threading.Lock()
        self._sizes: OrderedDict[ChunkDigest, int] = OrderedDict()
        self._memory: OrderedDict[ChunkDigest, bytes] = OrderedDict()
        self._used = self._memory_used = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._adopt()

    @property
    def used_bytes(self) -> int:
        """Bytes in files."""
        return self._used

    @property
    def free_bytes(self) -> int:
        """Bytes that still fit without an eviction."""
        return max(0, self.capacity - self._used)

    def __contains__(self, digest: ChunkDigest) -> bool:
        with self._lock:
            return digest in self._memory or digest in self._sizes

    def recall(self, digest: ChunkDigest) -> bytes | None:
        """The chunk's raw bytes where they are in memory, else None; costs nothing."""
        with self._lock:
            if (raw := self._memory.get(digest)) is not None:
                self._memory.move_to_end(digest)
            return raw

    def get(self, digest: ChunkDigest) -> bytes | None:
        """The chunk's raw bytes, or None. A file whose bytes do not match its name is dropped and counts as absent."""
        if (raw := self.recall(digest)) is not None:
            return raw
        with self._lock:
            if digest not in self._sizes:
                return None
            self._sizes.move_to_end(digest)
        return self._load(digest)

    def put(self, digest: ChunkDigest, raw: bytes) -> None:
        """Remember a chunk whose digest the caller has verified. A full disk makes the cache smaller, never an error."""
        self._remember(digest, raw)
        with self._lock:
            if digest in self._sizes:
                return
        self._evict(len(raw))
        try:
            self._write(digest, raw)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._evict(self.capacity)
            return
        with self._lock:
            if digest not in self._sizes:
                self._sizes[digest] = len(raw)
                self._used += len(raw)

    def _path(self, digest: ChunkDigest) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name

    def _load(self, digest: ChunkDigest) -> bytes | None:
        try:
            raw = self._path(digest).read_bytes()
        except OSError:
            self._drop(digest)
            return None
        if chunk_digest(raw) != digest:
            self._drop(digest)
            return None
        self._remember(digest, raw)
        with contextlib.suppress(OSError):
            os.utime(self._path(digest))
        return raw

    def _write(self, digest: ChunkDigest, raw: bytes) -> None:
        path = self._path(digest)
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f"{path.name}.{threading.get_ident()}.part")
        try:
            draft.write_bytes(raw)
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _remember(self, digest: ChunkDigest, raw: bytes) -> None:
        with self._lock:
            if digest in self._memory:
                return
            self._memory[digest] = raw
            self._memory_used += len(raw)
            while self._memory_used > self._memory_capacity and len(self._memory) > 1:
                _, oldest = self._memory.popitem(last=False)
                self._memory_used -= len(oldest)

    def _evict(self, wanted: int) -> None:
        """Unlink the least recently used files until `wanted` bytes fit."""
        while True:
            with self._lock:
                if not self._sizes or self._used + wanted <= self.capacity:
                    return
                digest = next(iter(self._sizes))
            self._drop(digest)

    def _drop(self, digest: ChunkDigest) -> None:
        with self._lock:
            self._used -= self._sizes.pop(digest, 0)
        self._path(digest).unlink(missing_ok=True)

    def _adopt(self) -> None:
        """Take over what an earlier process left, oldest first; half-written files go."""
        found: list[tuple[float, ChunkDigest, int]] = []
        for path in self._folder.glob("??/*"):
            if not DIGEST_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
                continue
            facts = path.stat()
            found.append((facts.st_mtime, ChunkDigest(bytes.fromhex(path.name)), facts.st_size))
        self._sizes.update((name, size) for _, name, size in sorted(found))
        self._used = sum(self._sizes.values())
        self._evict(0)
