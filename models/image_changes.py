"""What a run writes on the image it makes, and what its owner switches on it. Creation, sight and deletion are `models.images`.

The functions that a run calls take the image that the run loaded; whose it is was decided when its operation began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, ImageRefused
from models.facts import BootReport, DiskFacts, GuestFacts, merge_facts, whole_gib
from models.images import own_image
from models.licences import offered
from models.quotas import reserve_creation, settle_bytes
from models.states import transition
from models.tables import Disk, Image, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import storable
from models.vocabulary import UNFINISHED_IMAGE, BootProof, Consistency, DiskKind, ImageState

MAX_DISKS = 4
"""One system disk and up to three data disks."""


def requeue_image(session: Session, *, image: Image, by: Actor) -> None:
    """Start another attempt on an unfinished image or one in error. Raises QuotaReached or TransitionRefused."""
    session.refresh(image, with_for_update=True)
    if image.state is ImageState.QUEUED:
        return
    if image.state not in UNFINISHED_IMAGE:
        reserve_creation(session, account=image.owner)
    cleared = {"error_code": None, "error_message": None}
    transition(session, subject=image, new=ImageState.QUEUED, by=by, values=cleared)


def fail_image(session: Session, *, image: Image, code: str, message: str, by: Actor) -> None:
    """Keep the unfinished image, with the reason, for another attempt."""
    values = {"error_code": code, "error_message": storable(message)}
    transition(session, subject=image, new=ImageState.ERROR, by=by, values=values)


def activate_image(session: Session, *, image: Image, by: Actor) -> None:
    """The one transaction that makes the image exist: bytes settled, minimum disk raised to what its disks need.

    Raises FieldInvalid for an image without disks, QuotaReached when it grew over the limit, TransitionRefused.
    """
    disks = session.exec(select(Disk).where(Disk.image_id == image.id)).all()
    system = [disk for disk in disks if disk.kind is DiskKind.SYSTEM]
    if not disks or any(disk.digest is None for disk in disks):
        raise FieldInvalid("disks", "every disk of an active image has its manifest stored")
    settle_bytes(session, image=image, size=sum(disk.data_bytes for disk in disks))
    needed = max((whole_gib(disk.virtual_size) for disk in system), default=0)
    values = {"min_disk_gib": max(image.min_disk_gib, needed), "digest": content_digest(disks)}
    transition(session, subject=image, new=ImageState.ACTIVE, by=by, values=values)


def content_digest(disks: Sequence[Disk]) -> str:
    """SHA-256 over index, kind and manifest digest of every disk, in order: what the image is, whatever it is called."""
    content = [[disk.index, disk.kind.value, disk.digest] for disk in sorted(disks, key=lambda disk: disk.index)]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def record_disk(session: Session, *, image: Image, facts: DiskFacts) -> Disk:
    """Note a disk whose manifest is stored; the same index again replaces it."""
    if facts.index >= MAX_DISKS:
        raise FieldInvalid("disks", f"at most {MAX_DISKS} disks")
    if (facts.kind is DiskKind.SYSTEM) and facts.index != 0:
        raise FieldInvalid("disks", "the system disk is the first one")
    disk = session.merge(Disk(image_id=image.id, **facts.model_dump()))
    session.flush()
    session.refresh(image, ["disks"])
    return disk


def forget_disks(session: Session, *, image: Image) -> None:
    """Drop the disks of an earlier attempt: its source may hold others now."""
    session.exec(delete(Disk).where(col(Disk.image_id) == image.id))
    session.refresh(image, ["disks"])


def record_guest(session: Session, *, image: Image, detected: GuestFacts, format: str | None = None) -> None:
    """Note what inspection found, beside what was declared."""
    image.detected = detected.as_json()
    image.format = format or image.format
    merge_facts(image)
    _touch(session, image)


def record_capture(session: Session, *, image: Image, consistency: Consistency, detail: Mapping[str, Any]) -> None:
    """Note how the disks of an ECS were read; `detail` is what a person wants to know of it."""
    image.consistency, image.generalized = consistency, False
    image.capture_detail = dict(detail)
    _touch(session, image)


def record_generalized(session: Session, *, image: Image, detail: Mapping[str, Any]) -> None:
    """Note that the guest's identity was removed, and add what was to the capture's detail."""
    image.generalized = True
    image.capture_detail = {**image.capture_detail, **detail}
    _touch(session, image)


def record_boot(session: Session, *, image: Image, report: BootReport) -> None:
    """Note what the boot check saw."""
    image.boot_proof = BootProof(report.proof)
    image.boot_detail = dict(report.detail)
    _touch(session, image)


def set_protected(session: Session, *, image_id: str, protected: bool, by: Actor) -> Image:
    return _switch(session, image_id=image_id, by=by, field="protected", value=protected)


def set_hidden(session: Session, *, image_id: str, hidden: bool, by: Actor) -> Image:
    return _switch(session, image_id=image_id, by=by, field="hidden", value=hidden)


def set_deprecated(session: Session, *, image_id: str, at: datetime | None, by: Actor) -> Image:
    """From `at` on lists omit the image; it still launches. None takes the deprecation back."""
    return _switch(session, image_id=image_id, by=by, field="deprecated_at", value=at)


def set_active(session: Session, *, image_id: str, active: bool, by: Actor) -> Image:
    """Reactivate, or deactivate: refuse launches and reads.

    Raises NotVisible, TransitionRefused, ImageRefused for what is listed or what another account revoked: `models.revocation`.
    """
    image = own_image(session, account=by.account, image_id=image_id)
    if active and image.revoked_by not in (None, by.account):
        raise ImageRefused(
            image_id, "revoked", "reactivated", f"{image.revoked_by} revoked it, and only an operator restores it"
        )
    if not active and session.exec(select(exists().where(offered(image_id)))).one():
        raise ImageRefused(
            image_id, "listed", "deactivated", "a version of the marketplace offers it; withdraw that, or revoke"
        )
    new = ImageState.ACTIVE if active else ImageState.DEACTIVATED
    transition(session, subject=image, new=new, by=by, values={"revoked_by": None})
    return image


def _switch(session: Session, *, image_id: str, by: Actor, field: str, value: Any) -> Image:
    image = own_image(session, account=by.account, image_id=image_id)
    old = getattr(image, field)
    if old != value:
        setattr(image, field, value)
        _touch(session, image)
        change = Change("image", image.id, image.owner, f"{field}={old}", f"{field}={value}")
        write_audit(session, by=by, change=change)
    return image


def _touch(session: Session, image: Image) -> None:
    image.updated_at = utc_now()
    session.add(image)
    session.flush()
