"""Steps of a capture: queue its image, fix the moment, read what changed, let the ECS go. What is done to the disks afterwards
is in `tasks.generalizing`; how a guest is frozen and offered, in `tasks.engine.guests`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from pydantic import BaseModel, TypeAdapter
from sqlmodel import Session, select

from models.ecs import get_ecs, record_checkpoint
from models.facts import DiskFacts, GuestFacts
from models.image_changes import forget_disks, record_capture, requeue_image
from models.images import NewImage, create_image, own_image
from models.known import stored_bytes_of
from models.operations import bind_subject, get_operation, heartbeat, record_step, step_detail
from models.states import transition
from models.tables import Ecs, EcsDisk, Image
from models.vocabulary import Consistency, DiskKind, EcsState, ImageState
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.pipeline import Ingested, ingest
from tasks.engine.blobs.pipeline import Progress as IngestProgress
from tasks.engine.disks.changed_reader import ChangedReader, OverlayReader
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.errors import CaptureRefused, StateRefused
from tasks.engine.geometry import DiskReader
from tasks.engine.guests import backup, checkpoints, domain, point
from tasks.engine.guests.checkpoints import LAUNCH, target_name
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.point import Point, PointRequest
from tasks.engine.settings import load_settings
from tasks.exports import require_server
from tasks.files import remove_scratch
from tasks.guests import files_of, own_here
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress, log
from tasks.requests import CaptureOptions
from tasks.resources import catalog, hypervisor, images_bucket
from tasks.sagas import Saga, release_lock

OFF = {
    DomainState.STOPPED: Consistency.STOPPED,
    DomainState.ABSENT: Consistency.STOPPED,
    DomainState.CRASHED: Consistency.CRASH,
}
"""What the disks of a guest that does not run agree with."""
STORED = "stored"


class Shot(BaseModel):
    """One disk of the moment. `parent` is the stored disk it is read against; `checkpoint` the one whose bitmap tells the
    changes; `overlay` its file where the guest is off; `reason` says why it is read whole."""

    index: int
    place: int
    kind: DiskKind
    virtual_size: int
    parent: str | None
    parent_size: int
    parent_stored: int
    checkpoint: str | None = None
    overlay: Path | None = None
    reason: str = ""


class Moment(BaseModel):
    """What was fixed: `socket` and `mark` (the new checkpoint) of a running guest, nothing of one that is off."""

    consistency: Consistency
    shots: list[Shot]
    socket: Path | None = None
    mark: str = ""
    frozen_seconds: float = 0.0
    note: str = ""


@task(**ONCE, task_run_name="queue {name}")
def queue_capture(saga: Saga, ecs_id: str, name: str, whole: bool, options: CaptureOptions) -> str:
    """Check the ECS's state, reserve quota and make the image's row, or take up an earlier attempt's. Returns its id."""
    with catalog(write=True) as session:
        ecs = own_here(session, saga.account, ecs_id)
        _require_capturable(ecs)
        image = session.get(Image, saga.subject) if saga.subject else None
        if image is not None and image.state is not ImageState.DELETED:
            requeue_image(session, image=image, by=saga.actor)
            forget_disks(session, image=image)
        else:
            size = sum(disk.size_bytes for disk in _chosen(ecs, whole, options))
            image = create_image(session, new=_new_image(session, ecs, name, options, size), by=saga.actor)
            bind_subject(session, lease=saga.held, subject_id=image.id)
        transition(session, subject=image, new=ImageState.TRANSFERRING, by=saga.actor)
        saga.subject = image.id
        return image.id


def stored(saga: Saga) -> list[DiskFacts] | None:
    """The disks that an earlier attempt stored before it failed; that moment is kept, and the ECS not needed again."""
    with catalog() as session:
        operation = get_operation(session, account=saga.account, operation_id=saga.operation_id)
        detail = step_detail(operation, name=STORED)
    if detail is None:
        return None
    release_lock(saga)
    return TypeAdapter(list[DiskFacts]).validate_python(detail["disks"])


@task(**RETRIED, task_run_name="take the moment")
def take_moment(saga: Saga, ecs_id: str, whole: bool, options: CaptureOptions) -> Moment:
    """Fix the point in time of every disk: frozen, offered by QEMU and thawed, or the files of a guest that is off."""
    with catalog() as session:
        ecs = own_here(session, saga.account, ecs_id)
        shots = [_shot(session, disk, place) for place, disk in enumerate(_chosen(ecs, whole, options))]
        kept = {disk.checkpoint for disk in ecs.disks if disk.checkpoint} | {LAUNCH}
    if not ecs.standalone:
        require_server()
    with hypervisor() as host:
        seen = domain.state(host, UUID(ecs_id))
        if seen in OFF:
            return _off(ecs, shots, OFF[seen])
        if seen is not DomainState.RUNNING:
            raise StateRefused("ecs", "paused", f"ECS {ecs_id} is {seen}", remedy="Resume it, or stop it.")
        return _running(host, saga, ecs, shots, options, kept)


@task(**RETRIED, task_run_name="store disk {shot.index}")
def store_disk(saga: Saga, ecs_id: str, moment: Moment, shot: Shot) -> DiskFacts:
    """Read what changed of one disk, send what the store lacks of it, then its manifest. Again is a resume."""
    objects = images_bucket()
    store = ChunkStore(objects)
    parent = get_manifest(objects, ManifestDigest(shot.parent)) if shot.parent else None
    progress = Progress(f"Capture disk {shot.index}", total=shot.virtual_size)
    with _reader(moment, shot, parent, store) as reader:
        threads = load_settings().import_threads
        done = ingest(reader, store, threads=threads, parent=parent, on_progress=partial(_watch, ecs_id, moment, progress))
    progress.finish(done.virtual_size)
    log.info("Disk %d: %s", shot.index, described(shot, done))
    return facts_of(done, index=shot.place, kind=shot.kind, parent_stored=shot.parent_stored)


@task(**RETRIED, task_run_name="let the ECS go")
def end_moment(saga: Saga, ecs_id: str, image_id: str, moment: Moment, disks: list[DiskFacts]) -> None:
    """End the backup, note what the next capture builds on, and unlock the ECS."""
    if moment.socket is not None:
        with hypervisor() as host:
            point.release(host.domain(UUID(ecs_id)), files_of(ecs_id))
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        image = own_image(session, account=saga.account, image_id=image_id)
        if moment.socket is not None:
            for shot, facts in zip(moment.shots, disks, strict=True):
                own = facts.model_copy(update={"index": shot.index})
                record_checkpoint(session, ecs=ecs, name=moment.mark, facts=own)
        record_capture(session, image=image, consistency=moment.consistency, detail=_detail(moment, disks))
        record_step(session, lease=saga.held, name=STORED, detail={"disks": [disk.model_dump(mode="json") for disk in disks]})
        kept = {disk.checkpoint for disk in ecs.disks if disk.checkpoint}
    if moment.socket is not None:
        with hypervisor() as host:
            forget_checkpoints(host, ecs_id, kept)
    release_lock(saga)


def undo_capture(saga: Saga, _error: BaseException) -> None:
    """The ECS runs on, thawed and without a backup job; what its next capture builds on is what it was before."""
    remove_scratch(saga)
    with catalog() as session:
        held = session.exec(select(Ecs).where(Ecs.locked_by == saga.operation_id)).first()
    if held is not None:
        with hypervisor() as host:
            found = host.find(UUID(held.id))
            if found is not None and domain.state(host, UUID(held.id)) not in OFF:
                point.release(found, files_of(held.id), checkpoint=_mark(saga))


def forget_checkpoints(host: Hypervisor, ecs_id: str, kept: set[str]) -> None:
    """Drop our checkpoints that nothing builds on any more."""
    found = host.domain(UUID(ecs_id))
    ours = {name for name in checkpoints.names(found) if name.startswith("ims-")}
    checkpoints.drop(found, ours - kept)


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


def _require_capturable(ecs: Ecs) -> None:
    if ecs.state not in (EcsState.ACTIVE, EcsState.STOPPED):
        remedy = "Only a running or a stopped ECS is captured."
        raise StateRefused("ecs", "state", f"ECS {ecs.id} is {ecs.state}", remedy=remedy)


def _chosen(ecs: Ecs, whole: bool, options: CaptureOptions) -> list[EcsDisk]:
    """The disks to capture: all of them, one data disk, or the system disk."""
    if whole and options.disk is not None:
        raise CaptureRefused("disks", "either the whole ECS or one of its disks is captured", remedy="Leave one of them out.")
    wanted = {disk.index for disk in ecs.disks} if whole else {options.disk or 0}
    chosen = [disk for disk in ecs.disks if disk.index in wanted]
    if not chosen:
        raise CaptureRefused("disks", f"ECS {ecs.id} has no disk {options.disk}", remedy="See `ims ecs show`.")
    return chosen


def _new_image(session: Session, ecs: Ecs, name: str, options: CaptureOptions, size: int) -> NewImage:
    parent = session.get(Image, ecs.image_id)
    system = parent if options.disk is None else None
    known = {name: getattr(system, name) for name in GuestFacts.model_fields} if system else {}
    return NewImage(
        name=name,
        size=size,
        source=f"ecs:{ecs.id}",
        description=options.description,
        tags=options.tags,
        declared=GuestFacts.model_validate(known),
        min_memory_mib=system.min_memory_mib if system else 0,
        parent_image_id=ecs.image_id,
        source_ecs_id=ecs.id,
        series=options.series,
    )


def _shot(session: Session, disk: EcsDisk, place: int) -> Shot:
    """The disk against its base, which is what a guest that is off is read against."""
    return Shot(
        index=disk.index,
        place=place,
        kind=DiskKind.SYSTEM if disk.kind is DiskKind.SYSTEM and place == 0 else DiskKind.DATA,
        virtual_size=disk.size_bytes,
        parent=disk.base_digest,
        parent_size=disk.base_size,
        parent_stored=stored_bytes_of(session, digest=disk.base_digest) if disk.base_digest else 0,
    )


def _mark(saga: Saga) -> str:
    return f"ims-{saga.operation_id}"


def _off(ecs: Ecs, shots: list[Shot], consistency: Consistency) -> Moment:
    """The overlays of a guest that is off; a standalone one holds its whole disk."""
    files = files_of(ecs.id)
    for shot in shots:
        shot.overlay = files.overlay(shot.index)
        if not shot.overlay.exists():
            raise StateRefused("ecs", "files", f"ECS {ecs.id} has lost {shot.overlay}", remedy="Delete it.")
        if ecs.standalone:
            shot.parent, shot.parent_size, shot.parent_stored = None, shot.virtual_size, 0
            shot.reason = "it holds its own base"
    return Moment(consistency=consistency, shots=shots)


def _running(
    host: Hypervisor, saga: Saga, ecs: Ecs, shots: list[Shot], options: CaptureOptions, kept: set[str]
) -> Moment:
    """Freeze, begin, thaw; then say for each disk what it is read against."""
    found, files = host.domain(UUID(ecs.id)), files_of(ecs.id)
    disks = {target_name(disk.index): disk for disk in ecs.disks if disk.index in {shot.index for shot in shots}}
    backup.end(found, files)
    forget_checkpoints(host, ecs.id, kept)
    since = {target: _candidates(ecs, disk) for target, disk in disks.items()}
    request = PointRequest(name=_mark(saga), since=since, consistency=options.consistency)
    taken = point.take(found, files, request)
    for shot in shots:
        _set_parent(shot, taken, disks[target_name(shot.index)], standalone=ecs.standalone)
    log.info("The ECS was frozen for %.3f s. %s", taken.frozen_seconds, taken.note)
    return Moment(
        consistency=Consistency(taken.consistency),
        shots=shots,
        socket=taken.socket,
        mark=request.name,
        frozen_seconds=taken.frozen_seconds,
        note=taken.note,
    )


def _candidates(ecs: Ecs, disk: EcsDisk) -> list[str]:
    """Checkpoints whose content is stored, best first. The base of a standalone ECS may be collected at any time."""
    own = [disk.checkpoint] if disk.checkpoint else []
    return own if ecs.standalone else [*own, LAUNCH]


def _set_parent(shot: Shot, taken: Point, disk: EcsDisk, *, standalone: bool) -> None:
    name = taken.since[target_name(shot.index)]
    shot.checkpoint = name
    if name is None:
        shot.parent, shot.parent_size, shot.parent_stored = None, shot.virtual_size, 0
        shot.reason = "no valid record of its changes" if not standalone or disk.checkpoint else "it holds its own base"
    elif name != LAUNCH:
        shot.parent, shot.parent_size, shot.parent_stored = disk.checkpoint_digest, disk.size_bytes, disk.checkpoint_stored


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


def _detail(moment: Moment, disks: list[DiskFacts]) -> dict[str, Any]:
    """What the image keeps of its capture."""
    rows = [
        {
            "disk": shot.index,
            "read": "whole" if shot.reason else "changes",
            "since": shot.checkpoint or ("launch" if shot.parent else None),
            "reason": shot.reason,
            "new_bytes": facts.new_bytes,
        }
        for shot, facts in zip(moment.shots, disks, strict=True)
    ]
    return {"frozen_seconds": moment.frozen_seconds, "note": moment.note, "disks": rows}
