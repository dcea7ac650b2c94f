"""The publish gate's records: what was found on a disk's content, and every verdict on an image; and the flag `public`.

What a scan looks for is `tasks.engine.inspection`; what becomes of a version is `models.versions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_
from sqlmodel import Session, col, select

from models.accounts import get_account, require_operator
from models.exceptions import ImageRefused, NotVisible
from models.images import own_image
from models.market_tables import DiskScan, Scan, Version
from models.paging import without
from models.plans import holds
from models.tables import Image, utc_now
from models.trail import Actor, Change, write_audit
from models.versions import require_publishable
from models.vocabulary import Purpose, VersionState


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One passage of an image through the gate."""

    purpose: Purpose
    passed: bool
    findings: Sequence[Mapping[str, Any]]
    report: str
    sbom: str


def known_content(session: Session, *, digest: str, rules: str) -> dict[str, Any] | None:
    """What a scan by these rules found on a disk of this content before; None where there was none."""
    row = session.get(DiskScan, (digest, rules))
    return dict(row.content) if row else None


def keep_content(session: Session, *, digest: str, rules: str, content: Mapping[str, Any]) -> None:
    """Keep what a scan found; the same content by the same rules once more replaces it."""
    session.merge(DiskScan(digest=digest, rules=rules, content=dict(content)))
    session.flush()


def record_passage(session: Session, *, image: Image, passage: Passage, by: Actor) -> Scan:
    """Keep a verdict with its report, and say so on the trail."""
    row = Scan(
        image_id=image.id,
        digest=image.digest or "",
        owner=image.owner,
        purpose=passage.purpose,
        passed=passage.passed,
        findings=[dict(finding) for finding in passage.findings],
        report=passage.report,
        sbom=passage.sbom,
    )
    session.add(row)
    session.flush()
    detail = {"scan": row.id, "purpose": row.purpose, "findings": len(row.findings)}
    verdict = "scan passed" if row.passed else "scan failed"
    write_audit(session, by=by, change=Change("image", image.id, image.owner, new=verdict, detail=detail))
    return row


def get_scan(session: Session, *, account: str, scan_id: str) -> Scan:
    """A scan of the account's own image, of a listed version, or of one in review where the account reviews, or NotVisible."""
    reviewed = [VersionState.LISTED] + ([VersionState.IN_REVIEW] if get_account(session, name=account).reviewer else [])
    of_version = select(Version).where(col(Version.image_id) == col(Scan.image_id), col(Version.scan_id) == col(Scan.id))
    shown = holds(of_version.where(col(Version.state).in_(reviewed)), over=Scan)
    query = select(Scan).where(Scan.id == scan_id, or_(col(Scan.owner) == account, shown))
    row = session.exec(query).first()
    if row is None:
        raise NotVisible("scan", scan_id)
    return row


def latest_scan(session: Session, *, image_id: str) -> Scan | None:
    """The newest verdict on an image, whosever it is: for a run that may look at it."""
    query = select(Scan).where(Scan.image_id == image_id).order_by(col(Scan.at).desc())
    return session.exec(query.options(*without(*_LONG))).first()


def list_scans(session: Session, *, account: str, image_id: str) -> Sequence[Scan]:
    """Scans of the account's own image, the newest first, without their long texts."""
    query = select(Scan).where(Scan.owner == account, Scan.image_id == image_id).order_by(col(Scan.at).desc()).limit(100)
    return session.exec(query.options(*without(*_LONG))).all()


def set_public(session: Session, *, image_id: str, scan_id: str, by: Actor) -> Image:
    """Show an operator's own image to every account, once a scan of this very content passed.

    Raises RoleNeeded, NotVisible, TransitionRefused, ImageRefused.
    """
    require_operator(session, name=by.account, step="make an image public")
    image = own_image(session, account=by.account, image_id=image_id)
    require_publishable(image)
    scan = session.get(Scan, scan_id)
    if scan is None or not scan.passed or (scan.image_id, scan.digest) != (image.id, image.digest):
        raise ImageRefused(image.id, "scan", "made public", "no scan of it passed")
    _flag(session, image=image, public=True, by=by)
    return image


def unset_public(session: Session, *, image_id: str, by: Actor) -> Image:
    """Take a public image back from everybody but its owner; ECSs run on. Raises RoleNeeded, NotVisible."""
    require_operator(session, name=by.account, step="take a public image back")
    image = own_image(session, account=by.account, image_id=image_id)
    _flag(session, image=image, public=False, by=by)
    return image


def _flag(session: Session, *, image: Image, public: bool, by: Actor) -> None:
    if image.public != public:
        change = Change("image", image.id, image.owner, f"public={image.public}", f"public={public}")
        image.public, image.updated_at = public, utc_now()
        session.add(image)
        session.flush()
        write_audit(session, by=by, change=change)


_LONG: tuple[Any, ...] = (Scan.report, Scan.sbom)
