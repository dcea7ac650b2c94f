"""A disk into the chunk store: read, leave zeros out, hash, ask, compress, put; several chunks at once, few in memory.
A disk that grew from a stored one inherits every chunk that its reader does not call changed.

The threads are ordinary ones because each of those steps releases the interpreter's lock. Running again after a failure
is the resume: chunks that are stored are not sent again. The way back is `fetching.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass

from tasks.engine.blobs.chunks import ChunkDigest, ChunkStore, chunk_digest, chunk_key
from tasks.engine.blobs.heritage import Heritage
from tasks.engine.blobs.keeping import Ledger, keep
from tasks.engine.blobs.manifest import Manifest, ManifestDigest, ManifestDraft
from tasks.engine.blobs.manifests import put_manifest
from tasks.engine.blobs.presence import Presence
from tasks.engine.geometry import CHUNK_SIZE, DiskReader, PendingChunk, chunk_length

PROGRESS_SECONDS = 0.5

ZEROS = bytes(CHUNK_SIZE)


@dataclass(slots=True)
class Progress:
    """How far an ingest is. `position` is the guest-visible offset up to which the disk was handed out."""

    virtual_size: int
    position: int = 0
    data_bytes: int = 0
    stored_bytes: int = 0
    new_bytes: int = 0
    chunks: int = 0
    new_chunks: int = 0
    inherited_chunks: int = 0


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one disk became. `chunks` and `data_bytes` (raw) count every place on the disk that is not zero, of which
    `inherited_chunks` were taken from the parent unread; `stored_bytes` its distinct chunks as stored, less what the parent's
    come to where there is one (so it may be negative); `new_bytes` and `new_chunks` those that this run sent."""

    manifest_digest: ManifestDigest
    virtual_size: int
    data_bytes: int
    stored_bytes: int
    new_bytes: int
    chunks: int
    new_chunks: int
    inherited_chunks: int


def ingest(
    reader: DiskReader,
    store: ChunkStore,
    ledger: Ledger,
    *,
    threads: int,
    parent: Manifest | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Ingested:
    """Store the disk's chunks, then its manifest, and hold it. The first failure of any thread stops all and is raised.

    With `parent`, which must be stored, the reader's pending chunks are those that may differ from it.

    `on_progress` is called in the caller's thread twice a second and at the end; what it raises cancels the run, as does
    an exception in the caller's thread by a signal. All threads have ended when this returns or raises.
    """
    run = _Run(reader, store, ledger, parent)
    workers = [
        threading.Thread(target=copy_context().run, args=(run.work,), name=f"ingest-{number}") for number in range(threads)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(PROGRESS_SECONDS)
                if on_progress:
                    on_progress(run.progress)
    finally:
        run.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    return run.finish()


class _Run:
    """What the threads of one ingest share."""

    def __init__(self, reader: DiskReader, store: ChunkStore, ledger: Ledger, parent: Manifest | None) -> None:
        self.progress = Progress(reader.virtual_size)
        self._store = store
        self._ledger = ledger
        self._presence: Presence = store.presence(ledger.register())
        self._pending: Iterator[PendingChunk] = reader.pending_chunks()
        self._draft = ManifestDraft(reader.virtual_size)
        self._heritage = Heritage(parent, virtual_size=reader.virtual_size)
        self._parentless = parent is None
        self._sizes: dict[ChunkDigest, int] = {}
        self._taking = threading.Lock()
        self._counting = threading.Lock()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None

    def stop(self) -> None:
        self._stopped.set()

    def work(self) -> None:
        """One thread's part: chunk by chunk until there are none, or something failed somewhere."""
        try:
            while not self._stopped.is_set() and (taken := self._take()):
                self._move(*taken)
        except BaseException as failure:  # noqa: BLE001  # carried to the caller's thread, where it is raised
            with self._counting:
                self._failure = self._failure or failure
            self.stop()

    def finish(self) -> Ingested:
        """Store the manifest, every chunk being stored, and hold it."""
        if self._failure:
            raise self._failure
        manifest = self._draft.finish()
        digest = put_manifest(self._store.objects, manifest)
        keep(self._store, self._ledger, manifest, digest, sent=self._sizes.__contains__)
        came, left = self._heritage.turnover(manifest)
        renewed = sum(map(self._sizes.__getitem__, came)) - sum(map(self._stored_size, left))
        done = self.progress
        return Ingested(
            manifest_digest=digest,
            virtual_size=done.virtual_size,
            data_bytes=done.data_bytes,
            stored_bytes=done.stored_bytes if self._parentless else renewed,
            new_bytes=done.new_bytes,
            chunks=done.chunks,
            new_chunks=done.new_chunks,
            inherited_chunks=done.inherited_chunks,
        )

    def _stored_size(self, digest: ChunkDigest) -> int:
        return self._presence.size(chunk_key(digest)) or 0

    def _inherit(self, index: int | None) -> None:
        """Fill the places before `index` with the parent's chunks."""
        chunks = data = 0
        for place, digest in self._heritage.before(index):
            self._draft.fill(self._draft.take(place), digest)
            chunks += 1
            data += chunk_length(place, virtual_size=self.progress.virtual_size)
        with self._counting:
            self.progress.chunks += chunks
            self.progress.inherited_chunks += chunks
            self.progress.data_bytes += data

    def _take(self) -> tuple[int, PendingChunk] | None:
        """The next chunk and its place in the manifest."""
        with self._taking:
            pending = next(self._pending, None)
            self._inherit(None if pending is None else pending.index)
            if pending is None:
                self.progress.position = self.progress.virtual_size
                return None
            self.progress.position = pending.index * CHUNK_SIZE
            return self._draft.take(pending.index), pending

    def _move(self, place: int, pending: PendingChunk) -> None:
        raw = pending.read()
        if raw == (ZEROS if len(raw) == CHUNK_SIZE else bytes(len(raw))):
            return
        digest = chunk_digest(raw)
        self._draft.fill(place, digest)
        if not self._claim(digest, len(raw), known=self._heritage.holds(pending.index, digest)):
            return
        known = self._presence.size(chunk_key(digest))
        self._count(digest, known if known is not None else self._store.put(digest, raw), sent=known is None)

    def _claim(self, digest: ChunkDigest, length: int, *, known: bool) -> bool:
        """Whether this thread is the first of the run to meet the chunk, and so the one that sees to it, unless it is known."""
        with self._counting:
            self.progress.chunks += 1
            self.progress.data_bytes += length
            if known or digest in self._sizes:
                return False
            self._sizes[digest] = 0
            return True

    def _count(self, digest: ChunkDigest, stored: int, *, sent: bool) -> None:
        with self._counting:
            self._sizes[digest] = stored
            self.progress.stored_bytes += stored
            if sent:
                self.progress.new_bytes += stored
                self.progress.new_chunks += 1
