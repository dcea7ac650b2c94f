"""Verification: every manifest that is needed is read, every chunk is looked up, and the chunks of some folders are read too.

What cannot be read is found with its reason; which disks it harms, `harmed` tells. The collector is `collecting.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tasks.engine.blobs.chunks import CHUNK_PREFIX, ChunkDigest, ChunkStore, chunk_key
from tasks.engine.blobs.keeping import digest_of, read_object
from tasks.engine.blobs.live import LiveChunks
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import get_manifest, manifest_key
from tasks.engine.blobs.objects import Missing
from tasks.engine.errors import Damaged

FOLDERS = 256
AHEAD = 8
"""Chunks in memory per thread."""


@dataclass
class Verified:
    """What was looked at, and what was found by its key, with the reason. Bytes are as stored."""

    manifests: int = 0
    chunks: int = 0
    chunks_read: int = 0
    stored_bytes: int = 0
    found: dict[str, str] = field(default_factory=dict)


def verify(
    store: ChunkStore,
    digests: Collection[ManifestDigest],
    *,
    folders: Collection[int],
    folder: Path,
    threads: int,
    on_progress: Callable[[Verified], None] = lambda _: None,
) -> Verified:
    """Read all manifests, look up all their chunks, and read the chunks whose digest begins with a byte of `folders`.

    `folder` takes temporary files. What is found may have been deleted since, with all that needed it: ask again.
    """
    done = Verified()
    with LiveChunks(folder) as live, ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        for digest in sorted(digests):
            done.manifests += 1
            try:
                live.add(get_manifest(store.objects, digest))
            except (Missing, Damaged) as error:
                done.found[manifest_key(digest)] = error.message
            on_progress(done)
        done.chunks = len(live)
        for number in range(FOLDERS):
            present = _look_up(store, live.under(number), number, done)
            if number in folders:
                _read(store, present, pool, threads, done, on_progress)
            on_progress(done)
    return done


def recheck(store: ChunkStore, keys: Iterable[str]) -> dict[str, str]:
    """Those of the objects that cannot be read now, with the reason."""
    found = {}
    for key in keys:
        if reason := _fault(store, key):
            found[key] = reason
    return found


def harmed(store: ChunkStore, digests: Iterable[ManifestDigest], keys: Collection[str]) -> dict[str, set[ManifestDigest]]:
    """For each of `keys` the disks that need it, their own manifest among them; unreadable manifests tell nothing more."""
    wanted = {digest_of(key): key for key in keys if key.startswith(CHUNK_PREFIX)}
    needing: dict[str, set[ManifestDigest]] = {key: set() for key in keys}
    for digest in digests:
        if (own := manifest_key(digest)) in needing:
            needing[own].add(digest)
            continue
        try:
            manifest = get_manifest(store.objects, digest)
        except (Missing, Damaged):
            continue
        for _, chunk in manifest.entries() if wanted else ():
            if chunk in wanted:
                needing[wanted[chunk]].add(digest)
    return needing


def _look_up(store: ChunkStore, wanted: Iterable[ChunkDigest], number: int, done: Verified) -> list[ChunkDigest]:
    """The chunks of a folder that are there; the others are found missing."""
    sizes = {info.key: info.size for info in store.objects.list(f"{CHUNK_PREFIX}{number:02x}/")}
    present = []
    for digest in wanted:
        key = chunk_key(digest)
        if key in sizes:
            present.append(digest)
            done.stored_bytes += sizes[key]
        else:
            done.found[key] = "the store holds no such object"
    return present


def _read(
    store: ChunkStore,
    digests: Sequence[ChunkDigest],
    pool: ThreadPoolExecutor,
    threads: int,
    done: Verified,
    on_progress: Callable[[Verified], None],
) -> None:
    """Read chunks several at a time, few in memory."""
    rest = iter(digests)
    while batch := list(islice(rest, threads * AHEAD)):
        reading: list[tuple[ChunkDigest, Future[str]]] = [
            (digest, pool.submit(_fault, store, chunk_key(digest))) for digest in batch
        ]
        for digest, fault in reading:
            done.chunks_read += 1
            if reason := fault.result():
                done.found[chunk_key(digest)] = reason
        on_progress(done)


def _fault(store: ChunkStore, key: str) -> str:
    """Why an object cannot be read, or nothing."""
    try:
        read_object(store, key)
    except (Missing, Damaged) as error:
        return error.message
    return ""
