"""Steps of a capture: queue its image, read what changed on each disk, clean up after a failure. The moment that is read is
`tasks.moments`' matter; what is done to the disks afterwards, `tasks.generalizing`'s."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from uuid import UUID

from prefect import task
from pydantic import TypeAdapter
from sqlmodel import Session

from models.facts import DiskFacts, GuestFacts
from models.image_changes import forget_disks, requeue_image
from models.images import NewImage, create_image
from models.licences import licences_on
from models.locks import ecs_locked_by
from models.operations import bind_subject
from models.states import transition
from models.tables import Ecs, EcsDisk, Image
from models.vocabulary import DiskKind, ImageState
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.pipeline import Ingested, ingest
from tasks.engine.blobs.pipeline import Progress as IngestProgress
from tasks.engine.disks.changed_reader import ChangedReader, OverlayReader
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.geometry import DiskReader
from tasks.engine.guests import backup, point
from tasks.engine.guests.checkpoints import mark_name
from tasks.engine.guests.domain_xml import target_name
from tasks.engine.settings import load_settings
from tasks.files import remove_scratch
from tasks.guests import files_of, own_here, require_built
from tasks.ledgers import CatalogLedger
from tasks.moments import STORED, Moment, Shot, chosen_disks
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress, log
from tasks.requests import CaptureOptions
from tasks.resources import catalog, hypervisor, images_bucket
from tasks.sagas import Saga, recorded, release_lock


@task(**ONCE, task_run_name="queue {name}")
def queue_capture(saga: Saga, ecs_id: str, name: str, whole: bool, options: CaptureOptions) -> str:
    """Check the ECS's state, reserve quota and make the image's row, or take up an earlier attempt's. Returns its id."""
    with catalog(write=True) as session:
        ecs = own_here(session, saga.account, ecs_id)
        require_built(ecs)
        image = session.get(Image, saga.subject) if saga.subject else None
        if image is not None and image.state is not ImageState.DELETED:
            requeue_image(session, image=image, by=saga.actor)
            forget_disks(session, image=image)
        else:
            disks = chosen_disks(ecs, whole, options)
            image = create_image(session, new=_new_image(session, ecs, name, options, disks), by=saga.actor)
            bind_subject(session, lease=saga.held, subject_id=image.id)
        transition(session, subject=image, new=ImageState.TRANSFERRING, by=saga.actor)
        saga.about("image", image.id)
        return image.id


def stored(saga: Saga, image_id: str) -> list[DiskFacts] | None:
    """The disks that an earlier attempt stored for this image before it failed; that moment is kept, and the ECS not needed
    again. Nothing keeps those of an image that was deleted."""
    detail = recorded(saga, STORED)
    if detail is None or detail.get("image_id") != image_id:
        return None
    release_lock(saga)
    return TypeAdapter(list[DiskFacts]).validate_python(detail["disks"])


@task(**RETRIED, task_run_name="store disk {shot.index}")
def store_disk(saga: Saga, ecs_id: str, moment: Moment, shot: Shot) -> DiskFacts:
    """Read what changed of one disk, send what the store lacks of it, then its manifest. Again is a resume."""
    objects = images_bucket()
    store = ChunkStore(objects)
    parent = get_manifest(objects, ManifestDigest(shot.parent)) if shot.parent else None
    progress = Progress(f"Capture disk {shot.index}", total=shot.virtual_size)
    with _reader(moment, shot, parent, store) as reader:
        done = ingest(
            reader,
            store,
            CatalogLedger(saga.held),
            threads=load_settings().import_threads,
            parent=parent,
            on_progress=partial(_watch, ecs_id, moment, progress),
        )
    progress.finish(done.virtual_size)
    log.info("Disk %d: %s", shot.index, described(shot, done))
    return facts_of(done, index=shot.place, kind=shot.kind, parent_stored=shot.parent_stored)


def undo_capture(saga: Saga, _error: BaseException) -> None:
    """The ECS runs on, thawed and without a backup job; what its next capture builds on is what the catalog says."""
    remove_scratch(saga)
    with catalog() as session:
        held = ecs_locked_by(session, operation_id=saga.operation_id)
        kept = {disk.checkpoint for disk in held.disks} if held else set()
    if held is not None:
        mark = mark_name(saga.operation_id)
        with hypervisor() as host:
            found = host.find(UUID(held.id))
            if found is not None:
                point.release(found, files_of(held.id), checkpoint=None if mark in kept else mark)


def chunk_of(disk: Manifest | None, store: ChunkStore, index: int) -> bytes:
    """The raw bytes of a stored disk's chunk; none where it reads as zeros."""
    digest = disk.digest_at(index) if disk else None
    return store.get(digest) if digest else b""


def facts_of(done: Ingested, *, index: int, kind: DiskKind, parent_stored: int, new_bytes: int = 0) -> DiskFacts:
    """A stored disk as the catalog notes it; `new_bytes` are those that an earlier step sent for it."""
    return DiskFacts(
        index=index,
        kind=kind,
        virtual_size=done.virtual_size,
        digest=done.manifest_digest,
        data_bytes=done.data_bytes,
        stored_bytes=max(0, parent_stored + done.stored_bytes),
        new_bytes=new_bytes + done.new_bytes,
    )


def described(shot: Shot, done: Ingested) -> str:
    """One line on how much of a disk was read."""
    read = done.chunks - done.inherited_chunks
    if shot.reason:
        return f"read whole ({shot.reason}): {read} chunks, {done.new_chunks} of them new in the store"
    return f"{read} changed chunks read, {done.new_chunks} new in the store, {done.inherited_chunks} taken over"


def _new_image(session: Session, ecs: Ecs, name: str, options: CaptureOptions, disks: list[EcsDisk]) -> NewImage:
    parent = session.get(Image, ecs.image_id)
    system = parent if options.disk is None else None
    known = {name: getattr(system, name) for name in GuestFacts.model_fields} if system else {}
    return NewImage(
        name=name,
        size=sum(disk.size_bytes for disk in disks),
        source=f"ecs:{ecs.id}",
        description=options.description,
        tags=options.tags,
        declared=GuestFacts.model_validate(known),
        min_memory_mib=system.min_memory_mib if system else 0,
        parent_image_id=ecs.image_id,
        source_ecs_id=ecs.id,
        series=options.series,
        licences=licences_on(ecs),
    )


def _reader(moment: Moment, shot: Shot, parent: Manifest | None, store: ChunkStore) -> DiskReader:
    if shot.overlay is not None:
        base = partial(chunk_of, parent, store)
        return OverlayReader(shot.overlay, virtual_size=shot.virtual_size, base_size=shot.parent_size, base=base)
    target = target_name(shot.index)
    socket = moment.socket or Path()
    if shot.checkpoint is None:
        return NbdReader(socket, export=target)
    return ChangedReader(socket, export=target, context=backup.bitmap_context(target), base_size=shot.parent_size)


def _watch(ecs_id: str, moment: Moment, progress: Progress, done: IngestProgress) -> None:
    if moment.socket is not None:
        backup.require_room(files_of(ecs_id))
    progress(done.position)
