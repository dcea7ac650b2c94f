"""The marketplace as accounts see it: listings found and read, subscriptions. How a version gets there is `models.versions`.

A listing is shown to everybody while it has a listed version, and to its owner always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_
from sqlalchemy.sql.base import ExecutableOption
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, ImageRefused, NotVisible
from models.images import REPORTED
from models.market_tables import Listing, Subscription, Version
from models.paging import Page, Source, find_places, without
from models.plans import among
from models.search import matches
from models.tables import Image
from models.trail import Actor, Change, write_audit
from models.vocabulary import ImageState, VersionState


@dataclass(frozen=True, slots=True)
class Offered:
    """A listing with its newest listed version, the image of that, and whether the account that looks may launch it."""

    listing: Listing
    version: Version
    image: Image
    subscribed: bool


def list_listings(
    session: Session, *, account: str, search: str = "", category: str | None = None, after: str | None = None, limit: int = 50
) -> Page[Offered]:
    """A page of what is listed and matches, the newest first, without its long texts. Raises FieldInvalid."""
    conditions = matches(session, search=search, category=category)
    query = select(Listing).where(col(Listing.listed_at).is_not(None), *conditions)
    source = Source(query, col(Listing.listed_at), col(Listing.id))
    page = find_places(session, sources=[source], after=after, limit=limit)
    return Page(_offered(session, account=account, ids=page.rows, options=without(*_LONG)), page.after)


def get_offered(session: Session, *, account: str, listing_id: str) -> Offered:
    """What everybody may read of a listing. Raises NotVisible where nothing of it is listed."""
    found = _offered(session, account=account, ids=[listing_id])
    if not found:
        raise NotVisible("listing", listing_id)
    return found[0]


def find_listing(session: Session, *, account: str, wanted: str) -> str:
    """The id of a listing that the account sees, by id, or by title where one alone has it. Raises NotVisible, FieldInvalid."""
    seen = or_(col(Listing.listed_at).is_not(None), col(Listing.owner) == account)
    query = select(Listing.id).where(or_(col(Listing.id) == wanted, col(Listing.title) == wanted), seen).limit(2)
    found = session.exec(query).all()
    if len(found) > 1:
        raise FieldInvalid("listing", f"more than one has the title {wanted!r}; use the id")
    if not found:
        raise NotVisible("listing", wanted)
    return found[0]


def list_versions(session: Session, *, account: str, listing_id: str) -> Sequence[Version]:
    """Versions of a listing, the newest first: all of them to its owner, the listed ones to others."""
    query = select(Version).where(Version.listing_id == listing_id)
    query = query.where(or_(col(Version.owner) == account, col(Version.state) == VersionState.LISTED))
    return session.exec(query.order_by(col(Version.number).desc())).all()


def own_listings(session: Session, *, account: str) -> Sequence[Version]:
    """All versions that the account submitted, the newest first."""
    query = select(Version).where(Version.owner == account).order_by(col(Version.created_at).desc()).limit(1000)
    return session.exec(query.options(*without(*_LONG))).all()


def subscribe(session: Session, *, listing_id: str, licence_digest: str, by: Actor) -> Subscription:
    """Accept the licence of what the listing offers now; again is the same.

    Raises NotVisible where nothing is listed, FieldInvalid where the licence is another one than the account read, ImageRefused
    where the account owns the image.
    """
    session.exec(select(Listing.id).where(Listing.id == listing_id).with_for_update()).first()
    offered = get_offered(session, account=by.account, listing_id=listing_id)
    if offered.version.owner == by.account:
        raise ImageRefused(offered.image.id, "own", "subscribed to", "it is the account's own")
    if offered.version.licence_digest != licence_digest:
        raise FieldInvalid("licence", f"the licence to accept is {offered.version.licence_digest}")
    key = (by.account, listing_id, licence_digest)
    held = session.get(Subscription, key)
    if held is not None:
        return held
    made = Subscription(account=key[0], listing_id=key[1], licence_digest=key[2], version_id=offered.version.id)
    session.add(made)
    session.flush()
    detail = {"account": by.account, "version_id": made.version_id, "licence": licence_digest}
    change = Change("listing", listing_id, offered.listing.owner, new="subscribed", detail=detail)
    write_audit(session, by=by, change=change)
    return made


def list_subscriptions(session: Session, *, account: str, limit: int = 1000) -> Sequence[tuple[Subscription, Listing]]:
    """What the account agreed to last, the newest first."""
    query = select(Subscription).where(Subscription.account == account).order_by(col(Subscription.accepted_at).desc())
    rows = session.exec(query.limit(limit)).all()
    first = query.with_only_columns(col(Subscription.listing_id)).limit(limit)
    listings = {listing.id: listing for listing in session.exec(select(Listing).where(among(Listing.id, first)))}
    return [(row, listings[row.listing_id]) for row in rows]


def listed_image(session: Session, *, image_id: str) -> Listing | None:
    """The listing that offers this image to everybody, if one does."""
    query = select(Listing).join(Version, col(Version.listing_id) == col(Listing.id))
    return session.exec(query.where(Version.image_id == image_id, Version.state == VersionState.LISTED)).first()


_LONG: tuple[Any, ...] = (Version.licence, Version.description, Version.logo_png)


def _offered(session: Session, *, account: str, ids: Sequence[str], options: Sequence[ExecutableOption] = ()) -> list[Offered]:
    """The listings of these ids that offer something, the newest first."""
    if not ids:
        return []
    current = and_(col(Version.id) == col(Listing.version_id), col(Image.id) == col(Version.image_id))
    query = select(Listing, Version, Image).where(current, col(Listing.id).in_(ids), Image.state == ImageState.ACTIVE)
    query = query.order_by(col(Listing.listed_at).desc(), col(Listing.id).desc()).options(*without(*REPORTED), *options)
    rows = session.exec(query).all()
    held = select(Subscription.listing_id, Subscription.licence_digest).where(Subscription.account == account)
    mine = set(session.exec(held.where(col(Subscription.listing_id).in_(ids))).all())
    return [Offered(*row, subscribed=(row[0].id, row[1].licence_digest) in mine) for row in rows]
