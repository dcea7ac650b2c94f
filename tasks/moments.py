"""Steps that fix the point in time of a capture and let the ECS go again: frozen, offered by QEMU and thawed, or the files of a
guest that is off. What is read of it, and how an image comes of that, is `tasks.captures`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from pydantic import BaseModel
from sqlmodel import Session

from models.ecs import get_ecs, record_checkpoint
from models.facts import DiskFacts
from models.image_changes import record_capture
from models.images import own_image
from models.known import stored_bytes_of
from models.operations import heartbeat, record_step
from models.tables import Ecs, EcsDisk
from models.vocabulary import Consistency, DiskKind
from tasks.engine.errors import CaptureRefused, StateRefused
from tasks.engine.guests import checkpoints, domain, point
from tasks.engine.guests.checkpoints import LAUNCH, mark_name
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.domain_xml import target_name
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.point import Point, PointRequest
from tasks.exports import require_server
from tasks.guests import files_of, own_here
from tasks.policies import RETRIED
from tasks.progress import log
from tasks.requests import CaptureOptions
from tasks.resources import catalog, hypervisor
from tasks.sagas import Saga, release_lock

OFF = {
    DomainState.STOPPED: Consistency.STOPPED,
    DomainState.ABSENT: Consistency.STOPPED,
    DomainState.CRASHED: Consistency.CRASH,
}
"""What the disks of a guest that does not run agree with."""
OWN_BASE = "it holds its own base"
STORED = "stored"
"""The step of the operation that says which disks are stored, so that no later attempt needs the ECS again."""


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

    def read_whole(self, reason: str) -> None:
        """Against nothing, because of `reason`."""
        self.parent, self.parent_size, self.parent_stored, self.reason = None, self.virtual_size, 0, reason


class Moment(BaseModel):
    """What was fixed: `socket` and `mark` (the new checkpoint) of a running guest, nothing of one that is off."""

    consistency: Consistency
    shots: list[Shot]
    socket: Path | None = None
    mark: str = ""
    frozen_seconds: float = 0.0
    note: str = ""


@task(**RETRIED, task_run_name="take the moment")
def take_moment(saga: Saga, ecs_id: str, whole: bool, options: CaptureOptions) -> Moment:
    """Fix the point in time of every disk: frozen, offered by QEMU and thawed, or the files of a guest that is off."""
    with catalog() as session:
        ecs = own_here(session, saga.account, ecs_id)
        shots = [_shot(session, disk, place) for place, disk in enumerate(chosen_disks(ecs, whole, options))]
    if not ecs.standalone:
        require_server()
    with hypervisor() as host:
        seen = domain.state(host, UUID(ecs_id))
        if seen in OFF:
            return _off(ecs, shots, OFF[seen])
        if seen is not DomainState.RUNNING:
            raise StateRefused("ecs", "paused", f"ECS {ecs_id} is {seen}", remedy="Resume it, or stop it.")
        return _running(host, saga, ecs, shots, options)


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
        record_capture(session, image=image, consistency=moment.consistency, detail=capture_detail(moment, disks))
        detail = {"image_id": image_id, "disks": [disk.model_dump(mode="json") for disk in disks]}
        record_step(session, lease=saga.held, name=STORED, detail=detail)
        kept = {disk.checkpoint for disk in ecs.disks if disk.checkpoint}
    if moment.socket is not None:
        with hypervisor() as host:
            checkpoints.forget_others(host.domain(UUID(ecs_id)), kept)
    release_lock(saga)


def chosen_disks(ecs: Ecs, whole: bool, options: CaptureOptions) -> list[EcsDisk]:
    """The disks to capture: all of them, one data disk, or the system disk."""
    if whole and options.disk is not None:
        raise CaptureRefused("disks", "either the whole ECS or one of its disks is captured", remedy="Leave one of them out.")
    wanted = {disk.index for disk in ecs.disks} if whole else {options.disk or 0}
    chosen = [disk for disk in ecs.disks if disk.index in wanted]
    if not chosen:
        raise CaptureRefused("disks", f"ECS {ecs.id} has no disk {options.disk}", remedy="See `ims ecs show`.")
    return chosen


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


def _off(ecs: Ecs, shots: list[Shot], consistency: Consistency) -> Moment:
    """The overlays of a guest that is off; a standalone one holds its whole disk."""
    files = files_of(ecs.id)
    for shot in shots:
        shot.overlay = files.overlay(shot.index)
        if not shot.overlay.exists():
            raise StateRefused("ecs", "files", f"ECS {ecs.id} has lost {shot.overlay}", remedy="Delete it.")
        if ecs.standalone:
            shot.read_whole(OWN_BASE)
    return Moment(consistency=consistency, shots=shots)


def _running(host: Hypervisor, saga: Saga, ecs: Ecs, shots: list[Shot], options: CaptureOptions) -> Moment:
    """Freeze, begin, thaw; then say for each disk what it is read against."""
    found, files = host.domain(UUID(ecs.id)), files_of(ecs.id)
    disks = {target_name(disk.index): disk for disk in ecs.disks if disk.index in {shot.index for shot in shots}}
    since = {target: _candidates(ecs, disk) for target, disk in disks.items()}
    request = PointRequest(name=mark_name(saga.operation_id), since=since, consistency=options.consistency)
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
        shot.read_whole(OWN_BASE if standalone and not disk.checkpoint else "no valid record of its changes")
    elif name != LAUNCH:
        shot.parent, shot.parent_size, shot.parent_stored = disk.checkpoint_digest, disk.size_bytes, disk.checkpoint_stored


def capture_detail(moment: Moment, disks: list[DiskFacts]) -> dict[str, Any]:
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
