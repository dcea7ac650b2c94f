"""Steps on the content of disks: from a local file into the chunk store, and out of it again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prefect import task

from models.facts import DiskFacts
from models.vocabulary import DiskKind
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.fetching import fetch
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.pipeline import Progress as IngestProgress
from tasks.engine.blobs.pipeline import ingest
from tasks.engine.disks.opening import open_disk
from tasks.engine.inspection.sniff import BootLayout, sniff
from tasks.engine.serving.exports import DiskExport
from tasks.engine.settings import load_settings
from tasks.files import SourceDisk, scratch_of
from tasks.ledgers import CatalogLedger
from tasks.policies import RETRIED
from tasks.progress import Progress
from tasks.resources import images_bucket
from tasks.sagas import Saga


@task(**RETRIED, task_run_name="transfer disk {disk.index}")
def store_disk(saga: Saga, disk: SourceDisk) -> DiskFacts:
    """Send what the store lacks of one disk, then its manifest. Again is a resume."""
    store = ChunkStore(images_bucket())
    progress = Progress(f"Transfer disk {disk.index}", total=disk.virtual_size)
    with open_disk(disk.window, disk.finding, scratch=scratch_of(saga)) as reader:
        ledger = CatalogLedger(saga.held)
        done = ingest(reader, store, ledger, threads=load_settings().import_threads, on_progress=partial(_show, progress))
    progress.finish(done.virtual_size)
    bootable = disk.index == 0 and boot_layout(done.manifest_digest).kind == "system"
    return DiskFacts(
        index=disk.index,
        kind=DiskKind.SYSTEM if bootable else DiskKind.DATA,
        virtual_size=done.virtual_size,
        digest=done.manifest_digest,
        data_bytes=done.data_bytes,
        stored_bytes=done.stored_bytes,
        new_bytes=done.new_bytes,
    )


def _show(progress: Progress, done: IngestProgress) -> None:
    progress(done.position)


def boot_layout(digest: ManifestDigest) -> BootLayout:
    """What the first sectors of a stored disk say of how it boots."""
    manifest, read = stored_disk(digest)
    return sniff(read, virtual_size=manifest.virtual_size)


def stored_disk(digest: ManifestDigest) -> tuple[Manifest, Callable[[int, int], bytes]]:
    """A stored disk's manifest, and verified reads of it by offset and length."""
    objects = images_bucket()
    manifest = get_manifest(objects, digest)
    export = DiskExport(manifest, ChunkStore(objects).get)

    def read(offset: int, length: int) -> bytes:
        buffer = bytearray(min(length, max(0, manifest.virtual_size - offset)))
        export.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    return manifest, read


def require_whole(digest: str) -> None:
    """Read every chunk of a stored disk. Raises Missing or Damaged for the first that is not as it should be."""
    objects = images_bucket()
    for _ in fetch(get_manifest(objects, ManifestDigest(digest)), ChunkStore(objects), threads=load_settings().import_threads):
        pass
