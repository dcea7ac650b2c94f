"""Both sides of the capture benchmarks: a guest's changes into the chunk store, and its whole disk as people export it today.

Ours are the steps of `tasks.moments`, `tasks.captures` and `tasks.generalizing`, without their catalog and their flow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

from benchmarks.capture_guests import Guest
from benchmarks.importing import THREADS
from tasks.engine.blobs.chunks import ChunkStore, chunk_key
from tasks.engine.blobs.keeping import Uncollected
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest, manifest_key
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.pipeline import Ingested, ingest
from tasks.engine.disks.changed_reader import ChangedReader, OverlayReader
from tasks.engine.geometry import DiskReader, PendingChunk
from tasks.engine.guests import backup, checkpoints, point
from tasks.engine.guests.checkpoints import LAUNCH, mark_name
from tasks.engine.guests.point import PointRequest

DISK = "vda"


@dataclass(frozen=True, slots=True)
class Captured:
    """One disk captured: what it cost and became. `dirty` are the chunks read, `frozen` the seconds the guest stood still."""

    done: Ingested
    dirty: list[int]
    seconds: float
    frozen: float = 0.0

    def sent_bytes(self, objects: ObjectStore) -> int:
        """What this capture sent to the store: chunks and manifest."""
        return self.done.new_bytes + objects.stat(manifest_key(self.done.manifest_digest))

    def dirty_bytes(self, objects: ObjectStore) -> int:
        """Stored size of the chunks read, each counted once."""
        manifest = get_manifest(objects, self.done.manifest_digest)
        digests = {digest for index in self.dirty if (digest := manifest.digest_at(index))}
        return sum(objects.stat(chunk_key(digest)) for digest in digests)


@dataclass(slots=True)
class Series:
    """Captures of a running guest, each on top of the last one; the first on top of `parent`, its image."""

    guest: Guest
    objects: ObjectStore
    parent: ManifestDigest
    mark: str = LAUNCH

    def capture(self) -> Captured:
        """The guest's changes since the last capture, from the freeze to the end of the backup, with all its clearing up."""
        began = time.perf_counter()
        domain, name = self.guest.domain, mark_name(uuid4().hex)
        request = PointRequest(name=name, since={DISK: [self.mark]}, consistency="filesystem")
        taken = point.take(domain, self.guest.files, request)
        try:
            if taken.since[DISK] != self.mark:
                raise RuntimeError(f"checkpoint {self.mark} does not tell the changes")
            done, dirty = self._read(taken.socket)
        finally:
            point.release(domain, self.guest.files)
        checkpoints.forget_others(domain, {name})
        self.parent, self.mark = done.manifest_digest, name
        return Captured(done, dirty, time.perf_counter() - began, taken.frozen_seconds)

    def _read(self, socket: Path) -> tuple[Ingested, list[int]]:
        parent, context = get_manifest(self.objects, self.parent), backup.bitmap_context(DISK)
        with ChangedReader(socket, export=DISK, context=context, base_size=parent.virtual_size) as reader:
            return _store(reader, ChunkStore(self.objects), parent)


def capture_overlay(overlay: Path, objects: ObjectStore, parent: ManifestDigest) -> Captured:
    """What an overlay that nobody writes to holds over the stored disk `parent`."""
    began = time.perf_counter()
    base, store = get_manifest(objects, parent), ChunkStore(objects)
    size = base.virtual_size
    with OverlayReader(overlay, virtual_size=size, base_size=size, base=partial(_chunk_of, base, store)) as reader:
        done, dirty = _store(reader, store, base)
    return Captured(done, dirty, time.perf_counter() - began)


@contextmanager
def whole(guest: Guest) -> Iterator[str]:
    """The NBD address of all of a running guest's disk as it is now; later captures notice nothing of it."""
    name = mark_name(uuid4().hex)
    taken = point.take(guest.domain, guest.files, PointRequest(name=name, since={DISK: []}))
    try:
        yield f"nbd+unix:///{DISK}?socket={taken.socket}"
    finally:
        point.release(guest.domain, guest.files, checkpoint=name)


@dataclass(slots=True)
class _Noted:
    """A DiskReader that remembers the chunks it hands out."""

    reader: DiskReader
    virtual_size: int
    indices: list[int] = field(default_factory=list)

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for pending in self.reader.pending_chunks():
            self.indices.append(pending.index)
            yield pending

    def close(self) -> None:
        self.reader.close()

    def __enter__(self) -> _Noted:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _store(reader: DiskReader, store: ChunkStore, parent: Manifest) -> tuple[Ingested, list[int]]:
    noted = _Noted(reader, reader.virtual_size)
    return ingest(noted, store, Uncollected(), threads=THREADS, parent=parent), noted.indices


def _chunk_of(disk: Manifest, store: ChunkStore, index: int) -> bytes:
    digest = disk.digest_at(index)
    return store.get(digest) if digest else b""
