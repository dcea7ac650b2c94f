"""What is known already of a disk's content, whichever image holds it: facts follow the digest, not the name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlmodel import Session, col, or_, select

from models.facts import GuestFacts
from models.tables import Disk, Ecs, EcsDisk, Image
from models.vocabulary import DiskKind, EcsState, ImageState


class Holder(NamedTuple):
    """An image or an ECS and a stored disk that it needs."""

    kind: str
    id: str
    name: str
    owner: str
    digest: str


def known_guest(session: Session, *, digest: str) -> GuestFacts | None:
    """What an earlier inspection found on a system disk of this very content; None when nothing was found or nobody looked."""
    query = (
        select(Image.detected)
        .join(Disk, col(Disk.image_id) == col(Image.id))
        .where(Disk.digest == digest, Disk.kind == DiskKind.SYSTEM, col(Image.os_type).is_not(None))
        .order_by(col(Image.created_at).desc())
    )
    detected = session.exec(query).first()
    return GuestFacts.model_validate(detected) if detected else None


def newest_digests(session: Session, *, limit: int = 20) -> Sequence[str]:
    """Disks of the newest images, deleted ones among them: what a bucket that is this catalog's may hold. For operators."""
    query = select(Disk.digest).join(Image).where(col(Disk.digest).is_not(None)).order_by(col(Image.created_at).desc())
    return [digest for digest in session.exec(query.limit(limit)).all() if digest]


def stored_bytes_of(session: Session, *, digest: str) -> int:
    """What the chunks of a stored disk occupy, from any image that has it; 0 where none ever had."""
    return session.exec(select(Disk.stored_bytes).where(Disk.digest == digest)).first() or 0


def holders_of(session: Session, *, digests: Collection[str]) -> Sequence[Holder]:
    """What needs these disks, whoever owns it; one entry for each disk. For the operator's verification alone."""
    images = (
        select(Image.id, Image.name, Image.owner, Disk.digest)
        .join(Disk)
        .where(col(Disk.digest).in_(digests), Image.state != ImageState.DELETED)
    )
    base = col(EcsDisk.base_digest).in_(digests) & col(Ecs.standalone).is_(False)
    guests = (
        select(Ecs, EcsDisk)
        .join(EcsDisk)
        .where(Ecs.state != EcsState.DELETED, or_(base, col(EcsDisk.checkpoint_digest).in_(digests)))
    )
    found = [Holder("image", id, name, owner, digest or "") for id, name, owner, digest in session.exec(images)]
    for ecs, disk in session.exec(guests):
        needed = {disk.base_digest, disk.checkpoint_digest}.intersection(digests)
        found += [Holder("ecs", ecs.id, ecs.name, ecs.owner, digest) for digest in needed if digest]
    return found
