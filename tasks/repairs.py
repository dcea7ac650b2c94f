"""What a reconciliation does about each thing it finds. Every repair may be repeated, and looks again before it acts.

A repair gives False where nothing is wrong any more, and raises an ImsError where it could not be done. What is wrong is
found by `tasks.reconciling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from prefect.states import Crashed
from sqlmodel import Session

from models.ecs import fail_ecs, move_ecs
from models.image_changes import fail_image
from models.locks import lock_ecs, unlock_ecs
from models.operations import Lease, fail, heartbeat, take_abandoned
from models.reconciliation import ecs_in_use, ecs_rows, hold_operation, orphaned_images
from models.tables import Ecs, Image, Operation
from models.vocabulary import EcsState, OperationState
from tasks.attaching import undo_attach
from tasks.captures import undo_capture
from tasks.engine.errors import HostUnavailable, NotFound
from tasks.engine.guests import backup, domain, point, watch
from tasks.engine.guests.backup import Job
from tasks.engine.guests.overlay import EcsFiles, remove_folder
from tasks.engine.settings import load_settings
from tasks.events import tell_failed
from tasks.files import undo_import
from tasks.findings import ABANDONED_CODE, FILES_CODE, Cure, Verdict, judge
from tasks.guests import discard_guest, files_of, undo_launch
from tasks.holders import is_alive, this_process
from tasks.outgoing import undo_export
from tasks.resources import catalog, hypervisor
from tasks.runs import end_run
from tasks.sagas import Saga, Undo, release_lock

UNDO_SECONDS = 300
"""How long nobody else can take up an operation whose leftovers are being removed."""
ABANDONED = "Its process ended before it was done. Run the same command again to go on."
LOST = "Its disks are gone from its host. Bring them back, or delete it."


def close_operation(saga: Saga, operation: Operation) -> bool:
    """Take an abandoned operation over, undo what it left as its own flow would, and note that it failed."""
    with catalog(write=True) as session:
        lease = take_abandoned(
            session, operation=operation, owner=this_process(), is_alive=is_alive, lease_seconds=UNDO_SECONDS
        )
    if lease is None:
        return False
    try:
        # What it left on another host is found by a reconciliation there.
        if operation.lease_host == load_settings().host:
            _undo(operation, lease)
    except BaseException:
        with catalog(write=True) as session:  # let the next attempt, or the same command, have it at once
            heartbeat(session, lease=lease, lease_seconds=0)
        raise
    with catalog(write=True) as session:
        fail(session, lease=lease, code=ABANDONED_CODE, message=ABANDONED)
        unlock_ecs(session, operation_id=operation.id)
        failed = _fail_subject(session, saga, operation.subject_id)
    _tell(failed)
    end_run(operation.flow_run_id, Crashed(message=ABANDONED))
    return True


def close_image(saga: Saga, image_id: str) -> bool:
    """An image that nobody makes is in error, from where the same command takes it up."""
    with catalog(write=True) as session:
        failed = _fail_image(session, saga, image_id)
    _tell(failed)
    return bool(failed)


def free_ecs(saga: Saga, ecs_id: str) -> bool:
    """Take a stale lock over, let the guest go, release the lock."""
    with locked(saga, ecs_id):
        let_go(ecs_id)
    return True


def pay_debt(ecs_id: UUID) -> bool:
    """Thaw a guest and end its backup where the capture that should have is late or gone."""
    files = files_of(str(ecs_id))
    with hypervisor() as host:
        paid = watch.relieve(host, files, ecs_id)
    debt = watch.owed(files)
    if not paid and debt is not None and debt.due:
        raise HostUnavailable("guest", "its agent did not say that it thawed", remedy="The host agent goes on trying.")
    return True


def end_backup(saga: Saga, ecs_id: str) -> bool:
    """End a backup job of ours that no capture reads any more."""
    with locked(saga, ecs_id), hypervisor() as host:
        found = host.find(UUID(ecs_id))
        if found is None or backup.job_of(found) is not Job.OURS:
            return False
        backup.end(found, files_of(ecs_id))
    return True


def mend_ecs(saga: Saga, ecs_id: str, expected: Cure) -> bool:
    """Bring a row and its guest together, if they still are apart in the same way now that nobody else can move them."""
    with locked(saga, ecs_id):
        with hypervisor() as host:
            seen = domain.state(host, UUID(ecs_id))
        with catalog() as session:
            ecs = ecs_rows(session, ids=[ecs_id])[ecs_id]
            busy = ecs_in_use(session, ids=[ecs_id], but=saga.operation_id)
        verdict = None if busy or ecs.state is EcsState.DELETED else judge(ecs, seen, files_of(ecs_id))
        if verdict is None or verdict.cure is not expected:
            return False
        _cure(saga, ecs_id, verdict)
    return True


def remove_deleted(saga: Saga, ecs_id: str) -> bool:
    """Domain and files of an ECS whose deletion was ordered."""
    with locked(saga, ecs_id):
        discard_guest(ecs_id)
    return True


def remove_stranger(ecs_id: str) -> bool:
    """Domain and files that the catalog knows nothing of, on the operator's word."""
    with catalog() as session:
        if ecs_rows(session, ids=[ecs_id]):
            return False
    discard_guest(ecs_id)
    return True


def remove_working_folder(path: Path) -> bool:
    """What an operation kept on the host, while nobody can take that operation up."""
    with catalog(write=True) as session:
        operation = hold_operation(session, operation_id=path.name)
        if operation is not None and operation.state is OperationState.RUNNING:
            return False
        return remove_path(path)


def remove_path(path: Path) -> bool:
    remove_folder(EcsFiles(path))
    return True


@contextmanager
def locked(saga: Saga, ecs_id: str) -> Iterator[None]:
    """Have an ECS alone for one repair. Raises EcsBusy where a live operation has it."""
    with catalog(write=True) as session:
        lock_ecs(session, ecs_id=ecs_id, operation_id=saga.operation_id, is_alive=is_alive)
    try:
        yield
    finally:
        release_lock(saga)


def let_go(ecs_id: str) -> None:
    """The guest is thawed and without a backup job of ours; a debt to a guest that is gone is a finding of its own."""
    with hypervisor() as host:
        found = host.find(UUID(ecs_id))
        if found is not None:
            point.release(found, files_of(ecs_id))


def _undo(operation: Operation, lease: Lease) -> None:
    dead = Saga(
        operation_id=operation.id,
        account=operation.account,
        kind=operation.kind,
        lease=lease,
        subject=operation.subject_id,
        flow_run_id=operation.flow_run_id,
        attempts=operation.attempts,
    )
    undo = UNDO.get(operation.kind)
    if undo is not None:
        with suppress(NotFound):  # its ECS or image was deleted meanwhile
            undo(dead, HostUnavailable("process", ABANDONED))


UNDO: dict[str, Undo] = {
    "attach-disk": undo_attach,
    "capture": undo_capture,
    "export": undo_export,
    "import": undo_import,
    "launch": undo_launch,
}
"""By kind of operation; others leave nothing on a host, or what they leave is found by looking at it."""


def _tell(failed: Sequence[Image | Ecs]) -> None:
    """Whoever waits for what a killed run was making hears that it failed."""
    for each in failed:
        tell_failed(each, code=ABANDONED_CODE, message=ABANDONED)


def _fail_subject(session: Session, saga: Saga, subject_id: str | None) -> Sequence[Image | Ecs]:
    """What the operation was making is in error, unless another operation makes it now. Returns what is."""
    if subject_id is None:
        return []
    if images := _fail_image(session, saga, subject_id):
        return images
    ecs = session.get(Ecs, subject_id)
    if ecs is None or ecs.state is not EcsState.BUILDING or ecs_in_use(session, ids=[ecs.id], but=saga.operation_id):
        return []
    fail_ecs(session, ecs=ecs, code=ABANDONED_CODE, message=ABANDONED, by=saga.actor)
    return [ecs]


def _fail_image(session: Session, saga: Saga, image_id: str) -> Sequence[Image]:
    images = orphaned_images(session, only=image_id)
    for image in images:
        fail_image(session, image=image, code=ABANDONED_CODE, message=ABANDONED, by=saga.actor)
    return images


def _cure(saga: Saga, ecs_id: str, verdict: Verdict) -> None:
    """What the host has first, then the row that tells of it."""
    if verdict.cure is Cure.DISCARD:
        discard_guest(ecs_id)
    with catalog(write=True) as session:
        ecs = ecs_rows(session, ids=[ecs_id])[ecs_id]
        if verdict.cure in (Cure.ACTIVE, Cure.STOPPED):
            move_ecs(session, ecs=ecs, new=EcsState(verdict.cure.value), by=saga.actor)
        elif verdict.cure is Cure.LOST:
            fail_ecs(session, ecs=ecs, code=FILES_CODE, message=LOST, by=saga.actor)
        elif ecs.state is EcsState.BUILDING:
            fail_ecs(session, ecs=ecs, code=ABANDONED_CODE, message=ABANDONED, by=saga.actor)
