"""ECSs: which of them an account sees, and their way through their states. Domains and overlays are `tasks.engine.guests`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, NotVisible, TransitionRefused
from models.facts import DiskFacts, whole_gib
from models.flavors import get_flavor
from models.images import get_image, hold_image
from models.licences import licences_of
from models.paging import Page, Source, find_places
from models.states import transition
from models.tables import GIB, Disk, Ecs, EcsDisk, Flavor, Image, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import check_name, storable
from models.vocabulary import Architecture, BootProof, DiskKind, EcsState, ImageState

MAX_32_BIT_MEMORY_MIB = 4096
MAX_ECS_DISKS = 4
"""As many as an image may have, so that every ECS can be captured whole."""
MAX_DATA_GIB = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEcs:
    """What is asked for; without `disk_gib` the system disk is as small as the image allows; `data_disks_gib` come empty."""

    name: str
    image_id: str
    host: str
    flavor: str = "small"
    disk_gib: int | None = None
    data_disks_gib: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How a launch ended: what the guest showed, how long it took from the request, and what ran it."""

    ready_by: BootProof
    seconds_to_ready: float
    accelerator: str
    standalone: bool = False


def create_ecs(session: Session, *, new: NewEcs, by: Actor) -> Ecs:
    """A building ECS of the acting account over an active image that it sees; the image cannot be deleted while it builds.

    Raises NameInvalid, NotVisible, TransitionRefused for an image that is not active, FieldInvalid when the image does not fit.
    """
    image = _launchable_image(session, account=by.account, image_id=new.image_id)
    disk_gib = _fitting_disk(image, asked=new.disk_gib)
    _check_flavor(image, get_flavor(session, name=new.flavor))
    row = Ecs(
        owner=by.account,
        name=check_name(new.name),
        image_id=image.id,
        host=new.host,
        flavor=new.flavor,
        disk_gib=disk_gib,
    )
    licences = licences_of(session, account=by.account, image=image)
    row.disks = [_overlay(row, disk, licences=licences) for disk in image.disks]
    for gib in new.data_disks_gib:
        _append_disk(row, _empty_disk(row, gib))
    session.add(row)
    session.flush()
    detail = {"name": row.name, "image_id": image.id}
    write_audit(session, by=by, change=Change("ecs", row.id, row.owner, new=row.state, detail=detail))
    return row


def get_ecs(session: Session, *, account: str, ecs_id: str) -> Ecs:
    """The account's own ECS with its disks, or NotVisible."""
    query = select(Ecs).where(Ecs.id == ecs_id, Ecs.owner == account, Ecs.state != EcsState.DELETED)
    row = session.exec(query).first()
    if row is None:
        raise NotVisible("ecs", ecs_id)
    return row


def list_ecs(session: Session, *, account: str, after: str | None = None, limit: int = 50) -> Page[Ecs]:
    """A page of the account's own ECSs, newest first."""
    query = select(Ecs).where(Ecs.owner == account, Ecs.state != EcsState.DELETED)
    source = Source(query, col(Ecs.created_at), col(Ecs.id))
    page = find_places(session, sources=[source], after=after, limit=limit)
    rows = session.exec(select(Ecs).where(col(Ecs.id).in_(page.rows)).order_by(col(Ecs.created_at).desc(), col(Ecs.id).desc()))
    return Page(rows.all(), page.after)


def ecs_on_host(session: Session, *, host: str) -> list[Ecs]:
    """Every ECS that should have a domain on the host, whoever owns it: for the operator's reconciliation alone."""
    return list(session.exec(select(Ecs).where(Ecs.host == host, Ecs.state != EcsState.DELETED)).all())


def mark_ready(session: Session, *, ecs: Ecs, readiness: Readiness, by: Actor) -> None:
    """The launch is done: building -> active."""
    values = {
        "ready_by": readiness.ready_by,
        "seconds_to_ready": readiness.seconds_to_ready,
        "accelerator": readiness.accelerator,
        "standalone": readiness.standalone,
    }
    transition(session, subject=ecs, new=EcsState.ACTIVE, by=by, values=values)


def attach_disk(session: Session, *, ecs: Ecs, image_id: str, by: Actor) -> EcsDisk:
    """Add a disk over the one disk of an active data-disk image. Raises NotVisible, TransitionRefused, FieldInvalid."""
    image = _launchable_image(session, account=by.account, image_id=image_id)
    if len(image.disks) != 1 or image.disks[0].kind is not DiskKind.DATA:
        raise FieldInvalid("image", "only an image of a single data disk is attached")
    licences = licences_of(session, account=by.account, image=image)
    disk = _append_disk(ecs, _overlay(ecs, image.disks[0], licences=licences))
    session.add(ecs)
    session.flush()
    detail = {"disk": disk.index, "image_id": image_id}
    write_audit(session, by=by, change=Change("ecs", ecs.id, ecs.owner, new="disk attached", detail=detail))
    return disk


def detach_disk(session: Session, *, ecs: Ecs, index: int, by: Actor) -> None:
    """Drop the last disk of the ECS, which its guest never got. Raises FieldInvalid for another one."""
    if index != len(ecs.disks) - 1 or index == 0:
        raise FieldInvalid("disk", "only the last data disk is taken back")
    session.delete(ecs.disks.pop())
    session.flush()
    write_audit(session, by=by, change=Change("ecs", ecs.id, ecs.owner, new="disk taken back", detail={"disk": index}))


def record_checkpoint(session: Session, *, ecs: Ecs, name: str, facts: DiskFacts) -> None:
    """From checkpoint `name` on, the bitmap of disk `facts.index` of the ECS tells what differs from the stored disk."""
    disk = next(disk for disk in ecs.disks if disk.index == facts.index)
    disk.checkpoint, disk.checkpoint_digest, disk.checkpoint_stored = name, facts.digest, facts.stored_bytes
    session.add(disk)
    session.flush()


def mark_standalone(session: Session, *, ecs: Ecs) -> None:
    """The overlays hold everything now: the ECS no longer refers to any manifest."""
    ecs.standalone = True
    ecs.updated_at = utc_now()
    session.add(ecs)
    session.flush()


def move_ecs(session: Session, *, ecs: Ecs, new: EcsState, by: Actor) -> None:
    """Note a start, a stop or another attempt to build; an earlier error is forgotten."""
    transition(session, subject=ecs, new=new, by=by, values={"error_code": None, "error_message": None})


def fail_ecs(session: Session, *, ecs: Ecs, code: str, message: str, by: Actor) -> None:
    """Keep the ECS with the reason."""
    values = {"error_code": code, "error_message": storable(message)}
    transition(session, subject=ecs, new=EcsState.ERROR, by=by, values=values)


def delete_ecs(session: Session, *, ecs: Ecs, by: Actor) -> None:
    """Leave a tombstone, after the domain and its files are gone."""
    transition(session, subject=ecs, new=EcsState.DELETED, by=by, values={"deleted_at": utc_now()})


def _launchable_image(session: Session, *, account: str, image_id: str) -> Image:
    # Shared lock: many launches of one image at once, but no deletion, end of a share or withdrawal between this look and their
    # commit. The look comes after the lock: a lock that was waited for shows the row anew, not the shares beside it.
    hold_image(session, image_id=image_id, shared=True)
    image = get_image(session, account=account, image_id=image_id)
    if image.state is not ImageState.ACTIVE:
        raise TransitionRefused("image", image_id, image.state, "launched")
    return image


def _fitting_disk(image: Image, *, asked: int | None) -> int:
    """GiB of the system disk; says to the byte what is missing."""
    if not image.disks or image.disks[0].kind is not DiskKind.SYSTEM:
        raise FieldInvalid("image", "it has no system disk to boot from")
    needed = image.disks[0].virtual_size
    least = max(image.min_disk_gib, whole_gib(needed), 1)
    if asked is None:
        return least
    if asked < least:
        raise FieldInvalid("disk", f"{asked} GiB is {asked * GIB} bytes; the image needs {needed}, so at least {least} GiB")
    return asked


def _check_flavor(image: Image, flavor: Flavor) -> None:
    if flavor.memory_mib < image.min_memory_mib:
        raise FieldInvalid("flavor", f"{flavor.name} has {flavor.memory_mib} MiB; the image needs {image.min_memory_mib}")
    if image.architecture is Architecture.I686 and flavor.memory_mib > MAX_32_BIT_MEMORY_MIB:
        raise FieldInvalid("flavor", f"a 32-bit guest takes at most {MAX_32_BIT_MEMORY_MIB} MiB")


def _overlay(row: Ecs, disk: Disk, *, licences: list[str]) -> EcsDisk:
    size = row.disk_gib * GIB if disk.kind is DiskKind.SYSTEM else disk.virtual_size
    if disk.digest is None:
        raise FieldInvalid("image", f"disk {disk.index} has no stored manifest")
    return EcsDisk(
        ecs_id=row.id,
        index=disk.index,
        kind=disk.kind,
        licences=licences,
        base_digest=disk.digest,
        base_size=disk.virtual_size,
        size_bytes=size,
    )


def _empty_disk(row: Ecs, gib: int) -> EcsDisk:
    if not 1 <= gib <= MAX_DATA_GIB:
        raise FieldInvalid("data_disk", f"between 1 and {MAX_DATA_GIB} GiB")
    return EcsDisk(ecs_id=row.id, index=0, kind=DiskKind.DATA, size_bytes=gib * GIB)


def _append_disk(ecs: Ecs, disk: EcsDisk) -> EcsDisk:
    """The disk as the last of the ECS."""
    if len(ecs.disks) >= MAX_ECS_DISKS:
        raise FieldInvalid("disks", f"an ECS has at most {MAX_ECS_DISKS} disks")
    disk.index = len(ecs.disks)
    ecs.disks.append(disk)
    return disk
