"""import.first, import.first.no_store, import.sibling, import.sparse: how long an import takes beside today's pipeline."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.embedded_store import empty, fresh_bucket
from benchmarks.importing import changed_chunks, import_disk
from benchmarks.peers import convert_and_hash, convert_and_upload
from benchmarks.results import Result, alternate, median, seconds
from benchmarks.sample_disk import make_sibling, make_sparse_pair, make_system_disk
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.s3 import S3Address, connect

GIB = 1 << 30
SYSTEM_SIZE = 3 * GIB
SIBLING_CHANGED = 50 << 20
PEER_BUCKET = "peer"
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Bench:
    """Where a measurement works: a scratch folder, the store, and the disk that most of them read, made for the first."""

    scratch: Path
    address: S3Address

    @cached_property
    def disk(self) -> Path:
        return make_system_disk(self.scratch, virtual_size=SYSTEM_SIZE)


def first(bench: Bench) -> Iterator[Result]:
    """The first import into an empty bucket, with the embedded store."""
    bucket = fresh_bucket(bench.address)
    yield alternate("import.first", ours=lambda: emptied(bucket, bench.disk), peer=lambda: _peer(bench, bench.disk))


def no_store(bench: Bench) -> Iterator[Result]:
    """The same into memory: chunks into the memory twin beside a convert and a hash in a memory file system."""
    yield alternate(
        "import.first.no_store",
        ours=lambda: seconds(lambda: import_disk(bench.disk, MemoryObjects())),
        peer=lambda: _peer_in_memory(bench.disk),
    )


def sibling(bench: Bench) -> Iterator[Result]:
    """A second disk of which 50 MB differ: time, and the chunks sent beside those that differ."""
    changed = make_sibling(bench.disk, bench.scratch / "sibling.qcow2", changed=SIBLING_CHANGED)
    bucket, sent = fresh_bucket(bench.address), []

    def ours() -> float:
        emptied(bucket, bench.disk)
        return seconds(lambda: sent.append(import_disk(changed, bucket).new_chunks))

    yield alternate("import.sibling", ours=ours, peer=lambda: _peer(bench, changed))
    least = changed_chunks(bench.disk, changed)
    yield median("import.sibling.chunks", [(count, least) for count in sent[1:]], unit="chunks")


def sparse(bench: Bench) -> Iterator[Result]:
    """100 MB of data in 1 TiB; the peer is the same import of the same data in 1 GiB."""
    huge, small = make_sparse_pair(bench.scratch)
    bucket = fresh_bucket(bench.address)
    yield alternate("import.sparse", ours=lambda: emptied(bucket, huge), peer=lambda: emptied(bucket, small))


def emptied(bucket: ObjectStore, disk: Path) -> float:
    """Seconds that an import takes into the bucket when nothing is in it."""
    empty(bucket)
    return seconds(lambda: import_disk(disk, bucket))


def _peer(bench: Bench, disk: Path) -> float:
    bucket = fresh_bucket(bench.address, name=PEER_BUCKET)
    empty(bucket)
    client = connect(bench.address)
    return seconds(lambda: convert_and_upload(disk, scratch=bench.scratch, client=client, bucket=PEER_BUCKET))


def _peer_in_memory(disk: Path) -> float:
    target = MEMORY / f"peer-{uuid.uuid4().hex}.qcow2"
    try:
        return seconds(lambda: convert_and_hash(disk, target))
    finally:
        target.unlink(missing_ok=True)
