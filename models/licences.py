"""Licences of the marketplace and what they cover: whom a version is open to, and what goes with its content.

An account that subscribed to a listing may launch every version with the licence text that it accepted. What is captured from
such an ECS names those versions in `Image.licences`: it may be launched and captured again, and goes to nobody else.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import Session, col, select

from models.exceptions import ImageRefused
from models.market_tables import Subscription, Version
from models.plans import among, asked, holds
from models.tables import Ecs, Image
from models.vocabulary import UNDER_WAY, VersionState, WithdrawnFor


def is_subscribed(account: str) -> ColumnElement[bool]:
    """The condition, over image, version and subscription, under which the account may launch the image by its subscription."""
    same = and_(col(Version.image_id) == col(Image.id), col(Version.digest) == col(Image.digest))
    return and_(same, is_covered(account))


def is_covered(account: str) -> ColumnElement[bool]:
    """The same over version and subscription alone, for an image of which it is known that the version is of its content."""
    before = and_(
        col(Version.state) == VersionState.WITHDRAWN,
        col(Version.withdrawn_for) == WithdrawnFor.NEW,
        col(Subscription.accepted_at) < col(Version.withdrawn_at),
    )
    return and_(
        col(Subscription.listing_id) == col(Version.listing_id),
        col(Subscription.licence_digest) == col(Version.licence_digest),
        col(Subscription.account) == account,
        or_(col(Version.state) == VersionState.LISTED, before),
    )


def all_covered(account: str) -> list[ColumnElement[bool]]:
    """The same over version alone, for an account that may have thousands of subscriptions."""
    held = select(Subscription.listing_id).where(Subscription.account == account)
    pair = col(Subscription.listing_id) + col(
        Subscription.licence_digest
    )  # SQLite looks a tuple up in a list by reading all of it
    agreed = (col(Version.listing_id) + col(Version.licence_digest)).in_(held.with_only_columns(pair))
    listed = col(Version.state) == VersionState.LISTED
    before = holds(select(Subscription).where(is_covered(account)), over=Version)
    covered = or_(listed, and_(col(Version.withdrawn_for) == WithdrawnFor.NEW, before))
    return [among(Version.listing_id, held), asked(and_(agreed, covered))]


def open_to_some() -> ColumnElement[bool]:
    """The condition under which a subscriber of a version may launch it: listed, or withdrawn for new subscribers alone."""
    for_new = and_(col(Version.state) == VersionState.WITHDRAWN, col(Version.withdrawn_for) == WithdrawnFor.NEW)
    return or_(col(Version.state) == VersionState.LISTED, for_new)


def offered(image_id: str) -> ColumnElement[bool]:
    """The condition under which a version needs the image: somebody may decide for it, or launch it."""
    return and_(col(Version.image_id) == image_id, or_(col(Version.state).in_(UNDER_WAY), open_to_some()))


def licences_of(session: Session, *, account: str, image: Image) -> list[str]:
    """Versions whose licence binds what the account makes of this image: none of its own, unless that descends from one."""
    if image.owner == account or image.public:
        return list(image.licences)
    query = select(Version.id).where(col(Image.id) == image.id, is_subscribed(account)).order_by(col(Version.id))
    return sorted({*image.licences, *session.exec(query).all()})


def licences_on(ecs: Ecs) -> list[str]:
    """What binds an image captured from any disk of the ECS: its guest can copy from one to the other."""
    return sorted({licence for disk in ecs.disks for licence in disk.licences})


def require_exportable(image: Image, *, account: str) -> None:
    """Raises ImageRefused for what the account may only launch: what is shared with it, licensed, or bound by a licence."""
    require_unlicensed(image, step="exported")
    if not image.public and image.owner != account:
        raise ImageRefused(image.id, "not_own", "exported", "it is another account's; launch it, and capture what runs")


def require_unlicensed(image: Image, *, step: str) -> None:
    """Raises ImageRefused where a marketplace licence goes with the image's content; `step` completes "cannot be ..."."""
    if image.licences:
        raise ImageRefused(image.id, "licensed", step, "it descends from a marketplace image, whose licence goes with it")
