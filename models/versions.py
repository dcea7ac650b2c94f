"""Versions of marketplace listings: submitted, scanned, reviewed, listed, withdrawn. Who sees a listing is `models.listings`.

Order of locks: the image, then its listings. A listed version never changes and keeps its image from deletion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.accounts import get_account, require_reviewer
from models.exceptions import ImageRefused, NameTaken, NotVisible, TransitionRefused
from models.images import hold_image, own_image
from models.licences import offered, open_to_some, require_unlicensed
from models.market_tables import Listing, Version
from models.search import index_listing
from models.states import transition
from models.tables import Image, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import (
    check_categories,
    check_given,
    check_logo,
    check_name,
    check_prose,
    check_text,
    check_version_name,
)
from models.vocabulary import (
    Decision,
    DiskKind,
    ImageState,
    VersionState,
    WithdrawnFor,
)

MAX_LINE = 255
MAX_NOTE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """What a publisher says of an image; `title` names the listing, which the first version of it makes."""

    image_id: str
    title: str
    name: str
    summary: str
    categories: Sequence[str]
    support_contact: str
    licence: str
    description: str = ""
    logo_png: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said of a version, and until when a reviewer may answer."""

    scan_id: str
    passed: bool
    review_until: datetime


def submit_version(session: Session, *, new: NewVersion, by: Actor) -> Version:
    """A draft over the account's own active image of one system disk, as the next version of the listing of that title.

    Raises NotVisible, FieldInvalid, ImageRefused, TransitionRefused, NameTaken for a version name that the listing has.
    """
    said, title = _checked(new), check_name(new.title, field="title")
    image = own_image(session, account=by.account, image_id=new.image_id)
    require_publishable(image)
    listing = _own_listing(session, title=title, owner=by.account)
    last = session.exec(select(func.max(Version.number)).where(Version.listing_id == listing.id)).one()
    whose = {"listing_id": listing.id, "owner": by.account, "number": (last or 0) + 1}
    what = {"digest": image.digest, "image_created_at": image.created_at}
    version = Version.model_validate({**said, **whose, **what})
    try:
        with session.begin_nested():
            session.add(version)
    except IntegrityError as error:
        raise NameTaken("version", new.name) from error
    detail = {"listing": listing.id, "title": listing.title, "version": version.name, "image_id": image.id}
    write_audit(session, by=by, change=Change("version", version.id, by.account, new=version.state, detail=detail))
    return version


def require_publishable(image: Image) -> None:
    """Raises ImageRefused or TransitionRefused unless others may be given this image: active, licence-free, one system disk."""
    require_unlicensed(image, step="published")
    if image.state is not ImageState.ACTIVE or image.digest is None:
        raise TransitionRefused("image", image.id, image.state, "published")
    if len(image.disks) != 1 or image.disks[0].kind is not DiskKind.SYSTEM:
        raise ImageRefused(image.id, "disks", "published", "only an image of a single system disk is")


def begin_scan(session: Session, *, version: Version, by: Actor) -> None:
    """Draft -> scanning; one that is being scanned by an earlier attempt stays so."""
    if version.state is VersionState.DRAFT:
        transition(session, subject=version, new=VersionState.SCANNING, by=by)


def end_scan(session: Session, *, version: Version, verdict: Verdict, by: Actor) -> None:
    """Scanning -> in review, or -> rejected with its report."""
    new = VersionState.IN_REVIEW if verdict.passed else VersionState.REJECTED
    time = {"review_until": verdict.review_until} if verdict.passed else {"decided_at": utc_now()}
    transition(session, subject=version, new=new, by=by, values={"scan_id": verdict.scan_id, **time})


def decide(session: Session, *, version_id: str, decision: Decision, note: str, by: Actor) -> Version:
    """The acting account's answer to a version in review; a second answer is refused.

    Raises RoleNeeded, NotVisible, FieldInvalid, ImageRefused for an image that is not active any more, TransitionRefused for a
    version that is not in review or whose time has run out.
    """
    require_reviewer(session, name=by.account, step="review a version")
    check_prose(note, field="note", limit=MAX_NOTE)
    version = locked_version(session, version_id=version_id)
    if version.review_until is None:  # it never was in review, so no reviewer may know of it
        raise NotVisible("version", version_id)
    new = VersionState.LISTED if decision is Decision.APPROVE else VersionState.REJECTED
    if version.state is not VersionState.IN_REVIEW:  # a scan may end in `rejected` too, a reviewer may not end it
        raise TransitionRefused("version", version.id, version.state, new)
    if version.review_until <= utc_now():
        raise TransitionRefused("version", version.id, "review timed out", new)
    if decision is Decision.APPROVE:
        _require_unchanged(session, version)
    values = {"decision": decision, "reviewer": by.account, "note": note, "decided_at": utc_now()}
    transition(session, subject=version, new=new, by=by, values=values)
    if new is VersionState.LISTED:
        _show_newest(session, listing_id=version.listing_id)
    return version


def expire_review(session: Session, *, version_id: str, by: Actor) -> bool:
    """In review -> rejected, once its time has run out; False where it was answered or has time left."""
    version = locked_version(session, version_id=version_id)
    if version.state is not VersionState.IN_REVIEW or version.review_until is None or version.review_until > utc_now():
        return False
    values = {"decision": Decision.REJECT, "note": "No reviewer answered in time.", "decided_at": utc_now()}
    transition(session, subject=version, new=VersionState.REJECTED, by=by, values=values)
    return True


def withdraw_version(session: Session, *, version_id: str, scope: WithdrawnFor, by: Actor) -> Version:
    """Close a version to accounts that have not subscribed yet, or to all; a submission under way ends. An operator may too.

    Raises NotVisible for another account's version, TransitionRefused for one that was rejected.
    """
    version = locked_version(session, version_id=version_id)
    if version.owner != by.account and not get_account(session, name=by.account).operator:
        raise NotVisible("version", version_id)
    if version.state is VersionState.WITHDRAWN:
        _narrow(session, version=version, scope=scope, by=by)
        return version
    whom = scope if version.state is VersionState.LISTED else WithdrawnFor.ALL
    values = {"withdrawn_for": whom, "withdrawn_at": utc_now()}
    transition(session, subject=version, new=VersionState.WITHDRAWN, by=by, values=values)
    _show_newest(session, listing_id=version.listing_id)
    return version


def locked_version(session: Session, *, version_id: str) -> Version:
    """The version, its image and its listing held until the transaction ends; whether the caller may is its own question."""
    found = session.exec(select(Version.listing_id, Version.image_id).where(Version.id == version_id)).first()
    if found is None:
        raise NotVisible("version", version_id)
    listing_id, image_id = found
    hold_image(session, image_id=image_id)
    session.exec(select(Listing.id).where(Listing.id == listing_id).with_for_update()).first()
    query = select(Version).where(Version.id == version_id).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).one()


def note_review_run(session: Session, *, version_id: str, flow_run_id: str) -> None:
    """Which run asks the reviewers."""
    version = locked_version(session, version_id=version_id)
    version.review_run_id = flow_run_id
    session.add(version)
    session.flush()


def own_version(session: Session, *, account: str, version_id: str) -> Version:
    """The account's own version, or NotVisible."""
    version = session.exec(select(Version).where(Version.id == version_id, Version.owner == account)).first()
    if version is None:
        raise NotVisible("version", version_id)
    return version


def get_version(session: Session, *, account: str, version_id: str) -> Version:
    """A version that the account may read of: listed, its own, or in review where it reviews. Raises NotVisible."""
    role = get_account(session, name=account)
    allowed = [col(Version.state) == VersionState.LISTED, col(Version.owner) == account]
    allowed += [col(Version.state) == VersionState.IN_REVIEW] if role.reviewer else []
    version = session.exec(select(Version).where(Version.id == version_id, or_(*allowed))).first()
    if version is None:
        raise NotVisible("version", version_id)
    return version


def list_reviews(session: Session, *, account: str, limit: int = 100) -> Sequence[Version]:
    """What waits for a reviewer's answer, the first to time out first. Raises RoleNeeded."""
    require_reviewer(session, name=account, step="list reviews")
    query = select(Version).where(Version.state == VersionState.IN_REVIEW)
    return session.exec(query.order_by(col(Version.review_until)).limit(limit)).all()


def overdue_reviews(session: Session, *, limit: int = 500) -> Sequence[Version]:
    """Versions whose review has timed out: for the operator's schedule alone."""
    query = select(Version).where(Version.state == VersionState.IN_REVIEW, col(Version.review_until) <= utc_now())
    return session.exec(query.order_by(col(Version.review_until)).limit(limit)).all()


def offered_versions(session: Session) -> list[tuple[str, str]]:
    """Id and title of every version that somebody may launch, whoever published it: for the operator's rescan alone."""
    query = select(Version.id, Listing.title).join(Listing, col(Listing.id) == col(Version.listing_id))
    return list(session.exec(query.where(open_to_some()).order_by(col(Version.created_at))).all())


def versions_of_image(session: Session, *, image_id: str) -> Sequence[Version]:
    """Versions that need the image: under way, listed, or withdrawn for new subscribers alone."""
    return session.exec(select(Version).where(offered(image_id))).all()


def licence_digest(licence: str) -> str:
    """What an account accepts: the SHA-256 of the licence's text."""
    return hashlib.sha256(licence.encode()).hexdigest()


def _checked(new: NewVersion) -> dict[str, Any]:
    """What the publisher says, as columns."""
    licence = check_given(check_prose(new.licence, field="licence"), field="licence")
    contact = check_text(new.support_contact, field="support_contact", limit=MAX_LINE)
    return {
        "name": check_version_name(new.name),
        "image_id": new.image_id,
        "summary": check_given(check_text(new.summary, field="summary", limit=MAX_LINE), field="summary"),
        "description": check_prose(new.description, field="description"),
        "categories": check_categories(new.categories),
        "support_contact": check_given(contact, field="support_contact"),
        "licence": licence,
        "licence_digest": licence_digest(licence),
        "logo_png": check_logo(new.logo_png),
    }


def _own_listing(session: Session, *, title: str, owner: str) -> Listing:
    """The owner's listing of that title, held; made where there is none."""
    query = select(Listing).where(Listing.owner == owner, Listing.title == title).with_for_update()
    listing = session.exec(query).first()
    if listing is not None:
        return listing
    made = Listing(owner=owner, title=title)
    try:
        with session.begin_nested():
            session.add(made)
    except IntegrityError:  # another run was faster, and is waited for
        return session.exec(query).one()
    return made


def _require_unchanged(session: Session, version: Version) -> None:
    image = session.get_one(Image, version.image_id, populate_existing=True)
    if image.state is not ImageState.ACTIVE or image.digest != version.digest:
        raise ImageRefused(image.id, "state", "listed", f"it is {image.state}")


def _narrow(session: Session, *, version: Version, scope: WithdrawnFor, by: Actor) -> None:
    """From withdrawn for new subscribers to withdrawn for all; never back."""
    if scope is WithdrawnFor.ALL and version.withdrawn_for is WithdrawnFor.NEW:
        version.withdrawn_for = scope
        version.updated_at = utc_now()
        session.add(version)
        change = Change("version", version.id, version.owner, "withdrawn_for=new", "withdrawn_for=all")
        write_audit(session, by=by, change=change)


def _show_newest(session: Session, *, listing_id: str) -> None:
    """Show the listing as its newest listed version describes it; without one it is not shown."""
    listing = session.get_one(Listing, listing_id)
    query = select(Version).where(Version.listing_id == listing_id, Version.state == VersionState.LISTED)
    newest = session.exec(query.order_by(col(Version.number).desc())).first()
    listing.version_id = newest.id if newest else None
    listing.listed_at = newest.decided_at if newest else None
    listing.updated_at = utc_now()
    session.add(listing)
    session.flush()
    index_listing(session, listing=listing, version=newest)
