"""What is known already of a disk's content, whichever image holds it: facts follow the digest, not the name."""

from __future__ import annotations

from sqlmodel import Session, col, select

from models.facts import GuestFacts
from models.tables import Disk, Image
from models.vocabulary import DiskKind


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


def stored_bytes_of(session: Session, *, digest: str) -> int:
    """What the chunks of a stored disk occupy, from any image that has it; 0 where none ever had."""
    return session.exec(select(Disk.stored_bytes).where(Disk.digest == digest)).first() or 0
