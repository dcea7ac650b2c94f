"""Our side of the import benchmarks: one disk file through its reader into a chunk store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.reading import open_file
from tasks.engine.blobs.chunks import ChunkDigest, ChunkStore
from tasks.engine.blobs.keeping import Uncollected
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.pipeline import Ingested, ingest

THREADS = 4


def import_disk(disk: Path, objects: ObjectStore) -> Ingested:
    """What the import flow does with the bytes of a disk."""
    with open_file(disk) as reader:
        return ingest(reader, ChunkStore(objects), Uncollected(), threads=THREADS)


def changed_chunks(disk: Path, sibling: Path) -> int:
    """How many chunks of `sibling` are not chunks of `disk`: the least that an import beside it can send."""
    return len(set(_digests(sibling)) - set(_digests(disk)))


def _digests(disk: Path) -> Iterable[ChunkDigest]:
    objects = MemoryObjects()
    manifest = get_manifest(objects, import_disk(disk, objects).manifest_digest)
    return (digest for _, digest in manifest.entries())
