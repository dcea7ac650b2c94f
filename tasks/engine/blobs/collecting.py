"""The garbage collector: deletes chunks and manifests that nothing refers to, beside writers that may come to refer to them.

Round by round: publish what seems unreferenced, read the references again, spare what they name now, be granted the rest,
delete it, settle. Whoever wants a published name gets it back until it is granted (`keeping.py`, with the argument in
docs/adr/0011-collecting.md). What the catalog keeps of it is behind `Registry`; no clock decides on safety but after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.engine.blobs.chunks import CHUNK_PREFIX
from tasks.engine.blobs.keeping import GRANT_SECONDS, digest_of
from tasks.engine.blobs.live import LiveChunks
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import MANIFEST_PREFIX, get_manifest
from tasks.engine.blobs.objects import PAGE_SIZE, Missing, ObjectInfo, ObjectStore
from tasks.engine.errors import Damaged, StateRefused, StoreUnavailable

T = TypeVar("T")

ROUND = 20_000
"""Names published at once: what a writer may have to look through while it holds its disk."""
GRANT = 200
"""Names that are being deleted at once, and that a writer may have to wait for."""
KEEP_SECONDS = 24 * 3600
"""Younger objects are left alone: not for safety, but for imports that were broken off and will be repeated."""


class Registry(Protocol):
    """What one collector says to the catalog. Every call but `references` raises where the collector was taken over."""

    def references(self) -> set[ManifestDigest]:
        """Manifests that are needed now: one consistent look."""

    def begin(self) -> Sequence[str]:
        """Forget what earlier collectors published; returns what they were granted and did not settle."""

    def publish(self, keys: Collection[str]) -> None:
        """Say that these objects seem to be garbage. Whoever holds a disk afterwards sees it."""

    def spare(self, keys: Collection[str]) -> None:
        """Take it back."""

    def grant(self, keys: Collection[str]) -> set[str]:
        """Those that nobody took back: nobody can from now on."""

    def take_over(self, keys: Collection[str]) -> set[str]:
        """Those whose quiet time is over, and that nobody else took over: they are granted anew."""

    def settle(self, keys: Collection[str]) -> int:
        """Say that these are deleted. Returns how many deletions must still be remembered for the sake of writers."""


@dataclass
class Collected:
    """What a run found. `young` are unreferenced but too new, `waiting` are names whose deletion is not certain yet."""

    manifests: int = 0
    live_chunks: int = 0
    live_bytes: int = 0
    garbage: int = 0
    garbage_bytes: int = 0
    young: int = 0
    young_bytes: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    spared: int = 0
    waiting: int = 0
    stopped: str = ""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a collection runs. `folder` takes the set of live chunks. `remembered` is how many deletions may be kept in mind."""

    folder: Path
    apply: bool
    keep_seconds: float = KEEP_SECONDS
    round: int = ROUND
    grant: int = GRANT
    remembered: int = 200_000
    clock: Callable[[], float] = field(default=time.monotonic)


def collect(
    objects: ObjectStore,
    registry: Registry,
    rules: Rules,
    *,
    delete: Callable[[str], None],
    on_progress: Callable[[Collected], None] = lambda _: None,
) -> Collected:
    """Find garbage and, with `apply`, delete it. `delete` removes one object and must not repeat a request by itself: one
    that the store did not answer may still be carried out later.

    Raises StateRefused `store.incomplete` where a manifest that is needed cannot be read: what it needs is then unknown.
    """
    with LiveChunks(rules.folder) as live:
        return _Collection(objects, registry, rules, live, delete, on_progress).run()


class _Collection:
    """One run's state."""

    def __init__(
        self,
        objects: ObjectStore,
        registry: Registry,
        rules: Rules,
        live: LiveChunks,
        delete: Callable[[str], None],
        on_progress: Callable[[Collected], None],
    ) -> None:
        self._objects, self._registry, self._rules, self._live = objects, registry, rules, live
        self._delete_one, self._tell = delete, on_progress
        self._read: set[ManifestDigest] = set()
        self.done = Collected()

    def run(self) -> Collected:
        if self._rules.apply:
            self._finish_leftovers(self._registry.begin())
        self._read_references()
        self.done.manifests = len(self._read)
        garbage = self._garbage()
        while not self.done.stopped and (batch := list(islice(garbage, self._rules.round))):
            if self._rules.apply:
                self._round(batch)
            self._tell(self.done)
        self.done.live_chunks = len(self._live)
        return self.done

    def _finish_leftovers(self, leftovers: Sequence[str]) -> None:
        """Delete anew what an earlier collector may or may not have deleted, once no request of its can be under way."""
        for start in range(0, len(leftovers), self._rules.grant):
            batch = leftovers[start : start + self._rules.grant]
            taken = self._registry.take_over(batch)
            self.done.waiting += len(batch) - len(taken)
            self._delete(dict.fromkeys(sorted(taken), 0))

    def _read_references(self) -> None:
        for digest in sorted(self._registry.references() - self._read):
            try:
                self._live.add(get_manifest(self._objects, digest))
            except (Missing, Damaged) as error:
                raise StateRefused(
                    "store",
                    "incomplete",
                    f"manifest {digest} is needed and cannot be read, so what it needs is not known ({error.message})",
                    remedy="`ims store verify` names the images; restore or delete them first.",
                ) from error
            self._read.add(digest)
            self._tell(self.done)

    def _garbage(self) -> Iterator[ObjectInfo]:
        """Objects that nothing refers to and that are old enough. What has a name of another kind is not ours."""
        now = datetime.now(UTC)
        oldest_young = now - timedelta(seconds=self._rules.keep_seconds)
        for prefix in (MANIFEST_PREFIX, CHUNK_PREFIX):
            for page in _pages(self._objects.list(prefix)):
                wanted = self._needed([info.key for info in page])
                for info in page:
                    if info.key in wanted:
                        self.done.live_bytes += info.size
                    elif info.modified > oldest_young:
                        self.done.young += 1
                        self.done.young_bytes += info.size
                    else:
                        self.done.garbage += 1
                        self.done.garbage_bytes += info.size
                        yield info
                self._tell(self.done)

    def _needed(self, keys: Iterable[str]) -> set[str]:
        """Those of at most a page of keys that something refers to, as far as was read, or that are no names of ours."""
        needed, chunks = set(), {}
        for key in keys:
            try:
                digest = digest_of(key)
            except ValueError:
                needed.add(key)
                continue
            if key.startswith(CHUNK_PREFIX):
                chunks[digest] = key
            elif ManifestDigest(digest.hex()) in self._read:
                needed.add(key)
        return needed | {chunks[digest] for digest in self._live.among(list(chunks))}

    def _round(self, batch: Sequence[ObjectInfo]) -> None:
        sizes = {info.key: info.size for info in batch}
        self._registry.publish(sizes)
        self._read_references()
        spared = {
            key for start in range(0, len(batch), PAGE_SIZE) for key in self._needed(list(sizes)[start : start + PAGE_SIZE])
        }
        self._registry.spare(spared)
        self.done.spared += len(spared)
        left = [key for key in sizes if key not in spared]
        for start in range(0, len(left), self._rules.grant):
            asked = left[start : start + self._rules.grant]
            granted = self._registry.grant(asked)
            self.done.spared += len(asked) - len(granted)
            self._delete({key: sizes[key] for key in asked if key in granted})
            self._tell(self.done)
            if self.done.stopped:
                return

    def _delete(self, sizes: dict[str, int]) -> None:
        """Delete granted names one by one; one whose deletion is not certain stays granted."""
        until = self._rules.clock() + GRANT_SECONDS
        certain = []
        for key, size in sizes.items():
            if self._rules.clock() > until:
                self.done.stopped = "deleting took too long; the next run goes on"
                break
            try:
                self._delete_one(key)
            except StoreUnavailable as error:
                self.done.stopped = f"the store did not answer: {error.message}"
                break
            certain.append(key)
            self.done.deleted += 1
            self.done.deleted_bytes += size
        self.done.waiting += len(sizes) - len(certain)
        if certain and self._registry.settle(certain) > self._rules.remembered:
            self.done.stopped = "many deletions must be remembered until running imports end; the next run goes on"


def _pages(found: Iterator[T]) -> Iterator[list[T]]:
    while page := list(islice(found, PAGE_SIZE)):
        yield page
