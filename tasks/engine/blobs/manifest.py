"""The manifest of a disk: its size and the digests of its chunks in order, as one canonical run of bytes.

Same content, same bytes: holes and zero chunks are absent, adjoining chunks are one run, integers are little-endian.
`manifests.py` keeps it in a bucket under the SHA-256 of these bytes, which is the disk's identity.

    magic 8s | version u32 | chunk size u32 | virtual size u64 | runs u64 | chunks u64
    runs   x (first index u32, length u32)
    chunks x digest 32s
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NewType

from tasks.engine.blobs.chunks import DIGEST_SIZE, ChunkDigest
from tasks.engine.errors import Damaged
from tasks.engine.geometry import CHUNK_SIZE

ManifestDigest = NewType("ManifestDigest", str)
"""SHA-256 of a manifest's bytes, 64 hex digits: the identity of a disk's content."""

MAGIC = b"IMSDISK\0"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQ")
RUN_SIZE = 8
MAX_VIRTUAL_SIZE = 1 << 44
"""16 TiB: four times what any supported format's practical limit asks for, and what bounds a manifest's size."""


class Manifest:
    """Which chunk is where on one disk. Immutable; made by `ManifestDraft.finish` or `Manifest.parse`."""

    def __init__(self, virtual_size: int, *, runs: array[int], digests: bytes | memoryview) -> None:
        self.virtual_size = virtual_size
        self._runs = runs
        self._digests = digests
        self._firsts = runs[0::2]
        self._before = array("Q", accumulate(runs[1::2], initial=0))

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        """Read a manifest. Raises Damaged unless `raw` is exactly what `to_bytes` gives for some disk."""
        virtual_size, run_count, chunk_count = _header(raw)
        runs_end = HEADER.size + run_count * RUN_SIZE
        if len(raw) != runs_end + chunk_count * DIGEST_SIZE:
            raise Damaged(f"the manifest has {len(raw)} bytes, its header tells of another number")
        runs = _integers(raw[HEADER.size : runs_end])
        _check_runs(runs, chunk_count=chunk_count, slots=_slots(virtual_size))
        return cls(virtual_size, runs=runs, digests=memoryview(raw)[runs_end:])

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        header = HEADER.pack(MAGIC, VERSION, CHUNK_SIZE, self.virtual_size, len(self._firsts), len(self))
        return b"".join((header, _little(self._runs).tobytes(), self._digests))

    @property
    def digest(self) -> ManifestDigest:
        """The disk's identity."""
        return manifest_digest(self.to_bytes())

    def digest_at(self, index: int) -> ChunkDigest | None:
        """The chunk at `index`, or None where the disk reads as zeros; takes O(log runs)."""
        run = bisect_right(self._firsts, index) - 1
        if run < 0 or index - self._firsts[run] >= self._runs[2 * run + 1]:
            return None
        return self._digest(self._before[run] + index - self._firsts[run])

    def entries(self) -> Iterator[tuple[int, ChunkDigest]]:
        """(index, digest) of every chunk, ascending by index."""
        for run, first in enumerate(self._firsts):
            for position in range(self._before[run], self._before[run + 1]):
                yield first + position - self._before[run], self._digest(position)

    def __len__(self) -> int:
        return self._before[-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def _digest(self, position: int) -> ChunkDigest:
        return ChunkDigest(bytes(self._digests[position * DIGEST_SIZE : (position + 1) * DIGEST_SIZE]))


class ManifestDraft:
    """A manifest while its chunks are being read: places are taken in order, filled in any order, or left as zeros.

    36 bytes a place. Taking is the caller's to lock; filling different places needs no lock.
    """

    _ZEROS = bytes(DIGEST_SIZE)

    def __init__(self, virtual_size: int) -> None:
        if not 0 < virtual_size <= MAX_VIRTUAL_SIZE:
            raise ValueError(f"a disk of {virtual_size} bytes has no manifest")
        self._virtual_size = virtual_size
        self._indices = array("I")
        self._digests = bytearray()

    def take(self, index: int) -> int:
        """A place for the chunk at `index`, which must be behind every one taken before."""
        if index >= _slots(self._virtual_size) or (self._indices and index <= self._indices[-1]):
            raise ValueError(f"chunk {index} is out of order or behind the end of the disk")
        self._indices.append(index)
        self._digests += self._ZEROS
        return len(self._indices) - 1

    def fill(self, place: int, digest: ChunkDigest) -> None:
        """Say what is at a place; a place never filled reads as zeros."""
        self._digests[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE] = digest

    def finish(self) -> Manifest:
        """The manifest of all that was filled."""
        runs, digests, following = array("I"), bytearray(), -1
        for place, index in enumerate(self._indices):
            digest = self._digests[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE]
            if digest == self._ZEROS:
                continue
            if index != following:
                runs.extend((index, 0))
            runs[-1] += 1
            digests += digest
            following = index + 1
        return Manifest(self._virtual_size, runs=runs, digests=bytes(digests))


def manifest_of(virtual_size: int, entries: Iterable[tuple[int, ChunkDigest]]) -> Manifest:
    """The manifest of (index, digest) pairs that ascend by index."""
    draft = ManifestDraft(virtual_size)
    for index, digest in entries:
        draft.fill(draft.take(index), digest)
    return draft.finish()


def manifest_digest(raw: bytes) -> ManifestDigest:
    """The name of a manifest's bytes."""
    return ManifestDigest(hashlib.sha256(raw).hexdigest())


def largest_manifest(virtual_size: int = MAX_VIRTUAL_SIZE) -> int:
    """No manifest of a disk of this size has more bytes."""
    slots = _slots(virtual_size)
    return HEADER.size + slots * DIGEST_SIZE + (slots + 1) // 2 * RUN_SIZE


def _slots(virtual_size: int) -> int:
    return -(-virtual_size // CHUNK_SIZE)


def _header(raw: bytes) -> tuple[int, int, int]:
    """(virtual size, runs, chunks), each within what a disk can have."""
    if len(raw) < HEADER.size:
        raise Damaged("the manifest is shorter than its header")
    magic, version, chunk_size, virtual_size, run_count, chunk_count = HEADER.unpack_from(raw)
    if (magic, version, chunk_size) != (MAGIC, VERSION, CHUNK_SIZE):
        raise Damaged("the manifest is of another kind, version or chunk size than this program reads")
    if not 0 < virtual_size <= MAX_VIRTUAL_SIZE or not run_count <= chunk_count <= _slots(virtual_size):
        raise Damaged("the manifest's header contradicts itself")
    return virtual_size, run_count, chunk_count


def _check_runs(runs: array[int], *, chunk_count: int, slots: int) -> None:
    """Runs ascend, leave a gap between each other, end within the disk and hold every digest."""
    following = 0
    for first, length in zip(runs[0::2], runs[1::2], strict=True):
        if length == 0 or first < following:
            raise Damaged("the manifest's runs are empty, touch or are out of order")
        following = first + length + 1
    if following > slots + 1 or sum(runs[1::2]) != chunk_count:
        raise Damaged("the manifest's runs do not hold its chunks")


def _integers(raw: bytes) -> array[int]:
    return _little(array("I", raw))


def _little(values: array[int]) -> array[int]:
    """To or from the file's byte order; a copy where this machine has another."""
    if sys.byteorder == "little":
        return values
    swapped = array("I", values)
    swapped.byteswap()
    return swapped
