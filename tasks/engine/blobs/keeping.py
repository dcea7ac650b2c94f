"""How a new disk is made safe from the garbage collector: what its writer relied on is proved, and held, in one transaction.

The writer of a disk registers before it asks the store anything, and holds its manifest when that is stored. Holding fails
for names that the collector took meanwhile: those are proved by reading them again, or the writer starts anew and sends what
is gone. docs/adr/0011-collecting.md has the argument; the collector is `collecting.py`, the rows are `models.collecting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

from tasks.engine.blobs.chunks import CHUNK_PREFIX, ChunkDigest, ChunkStore, chunk_key
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import MANIFEST_PREFIX, get_manifest, manifest_key
from tasks.engine.blobs.objects import Missing, ObjectStore
from tasks.engine.blobs.retrying import unrepeated
from tasks.engine.errors import Damaged, StoreUnavailable

QUIET_SECONDS = 120.0
"""After this a delete request whose process ended, or that was not answered, has been carried out or never will be."""
GRANT_SECONDS = QUIET_SECONDS / 4
"""Who may delete a name and has not after this, deletes it no more."""
PAUSES = 60
PAUSE_SECONDS = 0.5
"""A deletion that is under way is waited for so often and so long; the step's own retries come after that."""


class Verdict(NamedTuple):
    """The answer to a wish to hold a disk: held when nothing is `doubtful` or `going`.

    Doubtful objects were deleted or found damaged after the writer registered, or after they were last proved: one that can
    be read now is proved at `epoch`. Going objects are being deleted.
    """

    epoch: int
    doubtful: frozenset[str] = frozenset()
    going: frozenset[str] = frozenset()

    @property
    def held(self) -> bool:
        return not self.doubtful and not self.going


class Ledger(Protocol):
    """What one writer says to the catalog. Every call may raise what the catalog raises, and that the run was taken over."""

    def register(self) -> frozenset[str]:
        """Begin a disk, before anything is asked of the store. Returns keys of objects that are known to be damaged."""

    def hold(self, digest: ManifestDigest, keys: Collection[str], *, proved: Mapping[str, int]) -> Verdict:
        """Keep the disk and all its objects (`keys`, its own manifest among them) until the run has ended."""

    def take_over(self, key: str) -> bool:
        """Be the one who deletes an object that its collector left half deleted, if that was long enough ago."""

    def settle(self, key: str) -> None:
        """Say that this object, which was taken over, is deleted for certain."""


class Uncollected:
    """The ledger of a store in which nobody collects: tests, benchmarks, a bucket in memory."""

    def register(self) -> frozenset[str]:
        return frozenset()

    def hold(self, digest: ManifestDigest, keys: Collection[str], *, proved: Mapping[str, int]) -> Verdict:  # noqa: ARG002
        return Verdict(epoch=0)

    def take_over(self, key: str) -> bool:  # noqa: ARG002
        return False

    def settle(self, key: str) -> None:
        raise ValueError(f"nobody collects, so nobody deleted {key}")


class Gone(StoreUnavailable):
    """A chunk that this run found stored was deleted before its disk was; the next attempt sends it."""

    code = "store.collected"


class Keys(Collection[str]):
    """The keys of all objects of a disk, its manifest's first; made into a set only when somebody looks for one."""

    def __init__(self, manifest: Manifest, digest: ManifestDigest) -> None:
        self._manifest = manifest
        self._own = manifest_key(digest)
        self._chunks: frozenset[ChunkDigest] | None = None

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str) or not key.startswith(CHUNK_PREFIX):
            return key == self._own
        if self._chunks is None:
            self._chunks = frozenset(digest for _, digest in self._manifest.entries())
        return digest_of(key) in self._chunks

    def __iter__(self) -> Iterator[str]:
        yield self._own
        yield from (chunk_key(digest) for _, digest in self._manifest.entries())

    def __len__(self) -> int:
        return 1 + len(self._manifest)


def digest_of(key: str) -> ChunkDigest:
    """The chunk whose key this is."""
    return ChunkDigest(bytes.fromhex(key.rpartition("/")[2]))


def keep(
    store: ChunkStore,
    ledger: Ledger,
    manifest: Manifest,
    digest: ManifestDigest,
    *,
    sent: Callable[[ChunkDigest], bool],
) -> None:
    """Hold a stored disk. `sent` says whether this run has a chunk's bytes from its source, and so can send it again.

    Raises Gone where the next attempt will send what is missing, Missing or Damaged for what only another image can restore.
    """
    keys, proved = Keys(manifest, digest), dict[str, int]()
    pauses = PAUSES
    while not (verdict := ledger.hold(digest, keys, proved=proved)).held:
        for key in verdict.doubtful:
            _prove(store, key, sent)
            proved[key] = verdict.epoch
        if verdict.going:
            if not pauses:
                raise Gone(f"{len(verdict.going)} objects are being deleted", remedy="Run it again; it goes on from here.")
            pauses -= 1
            finished = sum(_finish(store.objects, ledger, key) for key in verdict.going)
            if not finished:
                time.sleep(PAUSE_SECONDS)


def _finish(objects: ObjectStore, ledger: Ledger, key: str) -> bool:
    """Delete what a collector that is gone may or may not have deleted; whether that is certain now."""
    until = time.monotonic() + GRANT_SECONDS
    if not ledger.take_over(key) or time.monotonic() > until:
        return False
    try:
        unrepeated(objects).delete(key)
    except StoreUnavailable:
        return False
    ledger.settle(key)
    return True


def _prove(store: ChunkStore, key: str, sent: Callable[[ChunkDigest], bool]) -> None:
    """Read an object and check it against its name."""
    try:
        read_object(store, key)
    except (Missing, Damaged) as error:
        if key.startswith(MANIFEST_PREFIX) or sent(digest_of(key)):
            raise Gone(f"{key} is no longer stored as it was", remedy="Run it again; it is sent anew.") from error
        raise


def read_object(store: ChunkStore, key: str) -> None:
    """Read a chunk or a manifest and check it against its name. Raises Missing or Damaged."""
    if key.startswith(MANIFEST_PREFIX):
        get_manifest(store.objects, ManifestDigest(key.removeprefix(MANIFEST_PREFIX)))
    else:
        store.get(digest_of(key))
