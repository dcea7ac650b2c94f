"""Compares a catalog with what the market machine believes of it: all that any account may see, launch and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from catalog_rows import Catalog
from market_model import ACCOUNTS, MAX_BYTES, MAX_CREATIONS, MAX_IMAGES, REVIEWER, ImageBelief, Market, VersionBelief
from sqlmodel import Session, select

from models.ecs import NewEcs, create_ecs
from models.exceptions import FieldInvalid, NotVisible, RoleNeeded, TransitionRefused
from models.images import ImageFilter, get_image, image_type, list_images, visible_to
from models.licences import licences_on
from models.listings import find_listing, get_offered, list_listings, list_versions
from models.market_tables import Member, Version
from models.paging import Page
from models.quotas import usage
from models.sharing import list_members, list_offers
from models.tables import Image
from models.trail import Actor
from models.versions import get_version, list_reviews
from models.vocabulary import ImageType, MemberState

CHANGING = {"state", "withdrawn_for", "withdrawn_at", "updated_at"}
SEARCHES = (("gam", None), ("server", None), ("cat", None), ("tool small", None), ("", "web-server"), ("gamma", "database"))
EVERYTHING = ImageFilter(everything=True)
Row = TypeVar("Row")


def check_step(catalog: Catalog, market: Market, *, touched: Iterable[str], whole: str) -> None:
    """What every account sees, and launches of the images that a step touched; and all that account `whole` may ask."""
    with catalog.read() as session:
        _check_rows(session, market)
        for account in ACCOUNTS:
            seen = session.exec(select(Image.id).where(visible_to(account))).all()
            assert sorted(seen) == sorted(market.listed(None, account)), f"what {account} sees"
        _check_account(session, market, whole)
    _check_launches(catalog, market, touched)


def check_all(catalog: Catalog, market: Market) -> None:
    """All that every account sees, and may launch."""
    with catalog.read() as session:
        for account in ACCOUNTS:
            _check_account(session, market, account)
    _check_launches(catalog, market, market.images)


def _check_account(session: Session, market: Market, account: str) -> None:
    _check_images(session, market, account)
    _check_offers(session, market, account)
    _check_market(session, market, account)


def _check_launches(catalog: Catalog, market: Market, image_ids: Iterable[str]) -> None:
    """Tried, and taken back."""
    with catalog.write() as session:
        for image_id in image_ids:
            for account in ACCOUNTS:
                _check_launch(session, market, account, market.images[image_id])
        session.rollback()


def pages(ask: Callable[..., Page[Row]]) -> list[Row]:
    """All rows of all pages."""
    page = ask(after=None)
    rows = [*page.rows]
    while page.after is not None:
        page = ask(after=page.after)
        rows += page.rows
    return rows


def allowed(call: Callable[[], object]) -> bool:
    """Whether the account may read it; what it may not is as absent as what never was."""
    try:
        call()
    except NotVisible:
        return False
    return True


def _check_rows(session: Session, market: Market) -> None:
    images = {row.id: (row.state, row.public, frozenset(row.licences)) for row in session.exec(select(Image))}
    assert images == {row.id: (row.state, row.public, row.licences) for row in market.images.values()}
    members = {(row.image_id, row.account): row.state for row in session.exec(select(Member))}
    assert members == {key: share.state for key, share in market.shares.items()}
    versions = list(session.exec(select(Version)))
    assert {row.id: (row.state, row.withdrawn_for) for row in versions} == {
        row.id: (row.state, row.closed_to) for row in market.versions.values()
    }
    for version in versions:
        frozen = market.versions[version.id].frozen
        assert not frozen or columns_of(version) == frozen, "a version changed after it was listed"
        assert version.owner == market.versions[version.id].owner


def columns_of(version: Version) -> dict[str, object]:
    """All that may not change any more."""
    return {name: value for name, value in version.model_dump().items() if name not in CHANGING}


def _check_images(session: Session, market: Market, account: str) -> None:
    rows = pages(partial(list_images, session, account=account, chosen=EVERYTHING, limit=2))
    assert [row.id for row in rows] == market.listed(None, account), f"all images of {account}"
    assert [row.id for row in list_images(session, account=account).rows] == market.listed(None, account, everything=False)
    for kind in ImageType:
        chosen = ImageFilter(type=kind, everything=True)
        some = pages(partial(list_images, session, account=account, chosen=chosen, limit=3))
        assert [row.id for row in some] == market.listed(kind, account), f"{kind} images of {account}"
    for image in market.images.values():
        seen = allowed(partial(get_image, session, account=account, image_id=image.id))
        assert seen == (market.kind(account, image) is not None), f"{image.id} to {account}"
    for row in rows:
        assert image_type(session, account=account, image=row) == market.kind(account, market.images[row.id])
    used = usage(session, account=account)
    assert used == market.usage(account)
    assert all(held <= limit for held, limit in zip(used, (MAX_IMAGES, MAX_BYTES, MAX_CREATIONS), strict=True))


def _check_offers(session: Session, market: Market, account: str) -> None:
    for state in MemberState:
        offers = pages(partial(list_offers, session, account=account, state=state, limit=2))
        assert [offer.image.id for offer in offers] == market.offers(account, state)
        assert all(offer.member.account == account and offer.member.state == state for offer in offers)
    for image in market.images.values():
        if not market.owns(account, image):
            assert not allowed(partial(list_members, session, account=account, image_id=image.id))
            continue
        members = [row.account for row in list_members(session, account=account, image_id=image.id)]
        assert members == sorted(whose for shared, whose in market.shares if shared == image.id)


def _check_market(session: Session, market: Market, account: str) -> None:
    offered = pages(partial(list_listings, session, account=account, limit=2))
    assert [row.listing.id for row in offered] == market.market()
    for row in offered:
        shown = market.shown(row.listing.id)
        assert shown is not None
        assert (row.version.id, row.image.id) == (shown.id, shown.image)
        assert row.subscribed == (shown.id in market.covering(account, market.images[shown.image]))
    if account == REVIEWER:
        for search, category in SEARCHES:
            page = list_listings(session, account=account, search=search, category=category)
            assert [row.listing.id for row in page.rows] == market.market(search, category), f"{search!r} in {category}"
    for listing, (owner, _) in market.listings.items():
        _check_listing(session, market, account, listing, owner)
    for version in market.versions.values():
        seen = allowed(partial(get_version, session, account=account, version_id=version.id))
        assert seen == _reads(account, version)
    _check_reviews(session, market, account)


def _check_listing(session: Session, market: Market, account: str, listing: str, owner: str) -> None:
    shown = market.shown(listing) is not None
    assert allowed(partial(get_offered, session, account=account, listing_id=listing)) == shown
    assert allowed(partial(find_listing, session, account=account, wanted=listing)) == (shown or account == owner)
    rows = [row for row in market.versions.values() if row.listing == listing and (row.state == "listed" or owner == account)]
    found = [row.id for row in list_versions(session, account=account, listing_id=listing)]
    assert found == [row.id for row in sorted(rows, key=lambda row: -row.number)]


def _reads(account: str, version: VersionBelief) -> bool:
    reviews = account == REVIEWER and version.state == "in_review"
    return version.state == "listed" or version.owner == account or reviews


def _check_reviews(session: Session, market: Market, account: str) -> None:
    try:
        waiting = {row.id for row in list_reviews(session, account=account)}
    except RoleNeeded:
        assert account != REVIEWER
        return
    assert account == REVIEWER
    assert waiting == {row.id for row in market.versions.values() if row.state == "in_review"}


def _check_launch(session: Session, market: Market, account: str, image: ImageBelief) -> None:
    new = NewEcs(name="try", image_id=image.id, host="here")
    try:
        ecs = create_ecs(session, new=new, by=Actor(account))
    except NotVisible:
        assert market.kind(account, image) is None, f"{account} sees {image.id}"
    except TransitionRefused:
        assert market.owns(account, image)
        assert image.state != "active"
    except FieldInvalid:
        assert market.kind(account, image) is not None
        assert not image.system
    else:
        assert market.launches(account, image), f"{account} may not launch {image.id}"
        assert frozenset(licences_on(ecs)) == market.binding(account, image)
