"""Steps that give an ECS one more disk, over the one disk of a data-disk image. Disks it is born with are `tasks.guests`'."""

from __future__ import annotations

from uuid import UUID

from prefect import task

from models.ecs import attach_disk, detach_disk, get_ecs
from models.operations import heartbeat, record_step
from models.tables import EcsDisk
from tasks.engine.guests.overlay import create_overlay
from tasks.engine.guests.plugging import plug, plugged
from tasks.exports import causes_told, fill, require_server
from tasks.guests import disk_spec, done, files_of, own_here, require_built
from tasks.policies import ONCE, RETRIED
from tasks.resources import catalog, hypervisor
from tasks.sagas import Saga, recorded
from tasks.views import EcsView

ADDED = "added"


@task(**ONCE, task_run_name="add disk")
def add_disk(saga: Saga, ecs_id: str, image_id: str) -> int:
    """Make the disk's row, or take up the one of an earlier attempt. Returns its index."""
    index: int | None = (recorded(saga, ADDED) or {"index": None})["index"]
    with catalog(write=True) as session:
        ecs = own_here(session, saga.account, ecs_id)
        require_built(ecs)
        if index is None:
            index = attach_disk(session, ecs=ecs, image_id=image_id, by=saga.actor).index
            record_step(session, lease=saga.held, name=ADDED, detail={"ecs": ecs_id, "index": index})
        return index


@task(**RETRIED, task_run_name="plug in disk {index}")
def plug_disk(saga: Saga, ecs_id: str, index: int) -> EcsView:
    """Make its overlay and give it to the guest, now where that runs and at its next start where it does not."""
    require_server()
    with catalog() as session:
        ecs = own_here(session, saga.account, ecs_id)
    row: EcsDisk = ecs.disks[index]
    spec = disk_spec(files_of(ecs_id), row, standalone=False)
    if not spec.overlay.exists():
        create_overlay(spec.overlay, backing=spec.backing, virtual_size=row.size_bytes)
    with hypervisor() as host, causes_told([spec]):
        plug(host, UUID(ecs_id), spec, index=index)
    fill(row)
    return done(saga, ecs)


def undo_attach(saga: Saga, _error: BaseException) -> None:
    """A disk that did not get to the guest is no disk of the ECS."""
    detail = recorded(saga, ADDED)
    if not detail or detail["index"] is None:
        return
    ecs_id, index = detail["ecs"], detail["index"]
    with hypervisor() as host:
        if plugged(host, UUID(ecs_id), index=index):
            return
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        detach_disk(session, ecs=get_ecs(session, account=saga.account, ecs_id=ecs_id), index=index, by=saga.actor)
        record_step(session, lease=saga.held, name=ADDED, detail={"ecs": ecs_id, "index": None})
    files_of(ecs_id).overlay(index).unlink(missing_ok=True)
