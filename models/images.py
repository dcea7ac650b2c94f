"""Images: which of them an account sees, and every change of one. States are `models.states`, limits `models.quotas`.

`visible_to` is the only place that decides on sight; `own_image` the only one that decides on change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, false, or_
from sqlmodel import Session, col, select

from models.exceptions import DeletionRefused, NotVisible
from models.facts import GuestFacts, merge_facts
from models.licences import all_covered, is_subscribed, offered
from models.market_tables import Member, Subscription, Version
from models.paging import Page, Source, find_places, without
from models.plans import holds, in_order
from models.quotas import reserve_image
from models.states import transition
from models.tables import Ecs, Image, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import (
    MAX_DESCRIPTION,
    MAX_SOURCE,
    check_at_least,
    check_checksum,
    check_name,
    check_properties,
    check_tags,
    check_text,
)
from models.vocabulary import EcsState, ImageState, ImageType, MemberState

Conditions = list[ColumnElement[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """What is asked for. `source` must carry no credentials; `size` is the most bytes of data that it may come to hold."""

    name: str
    size: int
    source: str = ""
    declared_format: str | None = None
    checksum: str | None = None
    description: str = ""
    tags: Sequence[str] = ()
    properties: dict[str, str] = field(default_factory=dict)
    declared: GuestFacts = field(default_factory=GuestFacts)
    min_disk_gib: int = 0
    min_memory_mib: int = 0
    parent_image_id: str | None = None
    source_ecs_id: str | None = None
    series: str | None = None
    licences: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFilter:
    """Which of the visible images to list; hidden, and deprecated ones whose date has come, only when asked for."""

    type: ImageType | None = None
    state: ImageState | None = None
    name: str | None = None
    everything: bool = False


def visible_to(account: str) -> ColumnElement[bool]:
    """The SQL condition under which an account sees an image: its own, and of the active ones what is public, what it accepted
    as shared while it has the content that was offered, and what a subscription of the marketplace covers."""
    others = or_(col(Image.public), exists().where(_accepted(account)), exists().where(is_subscribed(account)))
    active = and_(col(Image.state) == ImageState.ACTIVE, others)
    return and_(col(Image.state) != ImageState.DELETED, or_(col(Image.owner) == account, active))


def image_type(session: Session, *, account: str, image: Image) -> ImageType:
    """What an image is to an account that sees it."""
    if image.public:
        return ImageType.PUBLIC
    if image.owner == account:
        return ImageType.PRIVATE
    shared = session.exec(select(Member.id).where(Image.id == image.id, _accepted(account))).first()
    return ImageType.SHARED if shared else ImageType.MARKETPLACE


def get_image(session: Session, *, account: str, image_id: str) -> Image:
    """A visible image with its disks, or NotVisible."""
    image = session.exec(select(Image).where(Image.id == image_id, visible_to(account))).first()
    if image is None:
        raise NotVisible("image", image_id)
    return image


def own_image(session: Session, *, account: str, image_id: str) -> Image:
    """The account's own image, locked against other changes until the transaction ends, or NotVisible."""
    owned = select(Image).where(Image.id == image_id, Image.owner == account, visible_to(account))
    image = session.exec(owned.with_for_update().execution_options(populate_existing=True)).first()
    if image is None:
        raise NotVisible("image", image_id)
    return image


def hold_image(session: Session, *, image_id: str, shared: bool = False) -> None:
    """Keep others from deciding on the image until the transaction ends; `shared`, beside others that do so as well.

    What is looked at afterwards is as they left it. Whether the caller may see the image is its own question.
    """
    session.exec(select(Image.id).where(Image.id == image_id).with_for_update(read=shared)).first()


def list_images(
    session: Session,
    *,
    account: str,
    chosen: ImageFilter | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[Image]:
    """A page of the visible images, newest first, without what boot and capture left for their reports."""
    page = find_places(session, sources=_sources(account, chosen or ImageFilter()), after=after, limit=limit)
    if not page.rows:
        return Page([], page.after)
    query = select(Image).where(col(Image.id).in_(page.rows)).options(*without(*REPORTED))
    return Page(session.exec(query.order_by(*_NEWEST_FIRST)).all(), page.after)


_NEWEST_FIRST = (col(Image.created_at).desc(), col(Image.id).desc())
REPORTED: tuple[Any, ...] = (Image.boot_detail, Image.capture_detail)
"""Columns that reports alone are made of, consoles and pictures of screens among them."""


def _sources(account: str, chosen: ImageFilter) -> list[Source]:
    """What is listed: of a name, all images that have it, asked one by one; otherwise each type from its own index."""
    kinds = [chosen.type] if chosen.type is not None else list(ImageType)
    if chosen.state not in (None, ImageState.ACTIVE):  # others' images are seen while they are active
        kinds = [kind for kind in kinds if kind in (ImageType.PRIVATE, ImageType.PUBLIC)]
    conditions = _conditions(chosen)
    if chosen.name is None:
        return [_SOURCES[kind](account, conditions) for kind in kinds]
    seen = or_(false(), *(_IS[kind](account) for kind in kinds))
    named = select(Image).where(Image.name == chosen.name, seen, *conditions)
    return [Source(named, col(Image.created_at), col(Image.id))]


def _is_own(account: str) -> ColumnElement[bool]:
    return and_(_mine(account), col(Image.public).is_(False))


def _is_public(account: str) -> ColumnElement[bool]:
    return and_(col(Image.public).is_(True), or_(col(Image.state) == ImageState.ACTIVE, _mine(account)))


def _is_shared(account: str) -> ColumnElement[bool]:
    return and_(*_of_others(account), holds(select(Member).where(_accepted(account)), over=Image))


def _is_market(account: str) -> ColumnElement[bool]:
    subscribed = select(Version).join(Subscription, is_subscribed(account))
    return and_(
        *_of_others(account), holds(subscribed, over=Image), ~holds(select(Member).where(_accepted(account)), over=Image)
    )


def _own(account: str, conditions: Conditions) -> Source:
    return Source(select(Image).where(_is_own(account), *conditions), col(Image.created_at), col(Image.id))


def _public(account: str, conditions: Conditions) -> Source:
    return Source(select(Image).where(_is_public(account), *conditions), col(Image.created_at), col(Image.id))


def _shared(account: str, conditions: Conditions) -> Source:
    image = select(Image).where(as_offered(), *_of_others(account), *conditions)
    shares = select(Member).where(not_ended(account), Member.state == MemberState.ACCEPTED, holds(image, over=Member))
    return Source(shares, col(Member.image_created_at), col(Member.image_id))


def _market(account: str, conditions: Conditions) -> Source:
    """The account's versions in order first, so that as few of their images are asked for as the page needs."""
    versions = select(Version.image_created_at, Version.image_id, Version.digest).where(*all_covered(account)).distinct()
    offers = in_order(versions, col(Version.image_created_at), col(Version.image_id))
    same = and_(col(Image.id) == offers.c.image_id, col(Image.digest) == offers.c.digest)
    unshared = ~holds(select(Member).where(_accepted(account)), over=Image)
    image = select(Image).where(same, *_of_others(account), unshared, *conditions)
    return Source(select(offers.c.image_id).where(holds(image, over=offers)), offers.c.image_created_at, offers.c.image_id)


_SOURCES: dict[ImageType, Callable[[str, Conditions], Source]] = {
    ImageType.PRIVATE: _own,
    ImageType.PUBLIC: _public,
    ImageType.SHARED: _shared,
    ImageType.MARKETPLACE: _market,
}
_IS: dict[ImageType, Callable[[str], ColumnElement[bool]]] = {
    ImageType.PRIVATE: _is_own,
    ImageType.PUBLIC: _is_public,
    ImageType.SHARED: _is_shared,
    ImageType.MARKETPLACE: _is_market,
}
"""The same as a condition on one image."""


def _mine(account: str) -> ColumnElement[bool]:
    return and_(col(Image.owner) == account, col(Image.state) != ImageState.DELETED)


def _of_others(account: str) -> Conditions:
    """Another account's image that a share or a subscription may let it see."""
    return [col(Image.state) == ImageState.ACTIVE, col(Image.owner) != account, col(Image.public).is_(False)]


def offered_to(account: str) -> ColumnElement[bool]:
    """The condition, over image and member, under which the share stands: it has not ended and is of what was offered."""
    return and_(not_ended(account), as_offered())


def not_ended(account: str) -> ColumnElement[bool]:
    """Its part that the share decides on alone."""
    return and_(col(Member.account) == account, or_(col(Member.expires_at).is_(None), col(Member.expires_at) > utc_now()))


def as_offered() -> ColumnElement[bool]:
    """Its part that a share and its image decide on together."""
    return and_(col(Member.image_id) == col(Image.id), col(Member.digest) == col(Image.digest))


def _accepted(account: str) -> ColumnElement[bool]:
    return and_(offered_to(account), col(Member.state) == MemberState.ACCEPTED)


def create_image(session: Session, *, new: NewImage, by: Actor) -> Image:
    """A queued image of the acting account, its quota reserved. Raises FieldInvalid, NotVisible or QuotaReached."""
    image = _checked_row(new, owner=by.account)
    if new.parent_image_id is not None and new.source_ecs_id is None:  # a captured ECS proves its own descent
        get_image(session, account=by.account, image_id=new.parent_image_id)
    reserve_image(session, account=by.account, size=image.reserved_bytes)
    session.add(image)
    session.flush()
    change = Change("image", image.id, image.owner, new=image.state, detail={"name": image.name})
    write_audit(session, by=by, change=change)
    return image


def delete_image(session: Session, *, image_id: str, by: Actor) -> Image:
    """Leave a tombstone; the bytes are the collector's. Raises NotVisible, DeletionRefused or TransitionRefused."""
    image = own_image(session, account=by.account, image_id=image_id)
    if image.protected:
        raise DeletionRefused("image", image_id, "protected")
    building = exists().where(col(Ecs.image_id) == image_id, col(Ecs.state) == EcsState.BUILDING)
    if session.exec(select(building)).one():
        raise DeletionRefused("image", image_id, "in_use")
    if session.exec(select(exists().where(offered(image_id)))).one():
        raise DeletionRefused("image", image_id, "listed")
    transition(session, subject=image, new=ImageState.DELETED, by=by, values={"deleted_at": utc_now()})
    return image


def _conditions(chosen: ImageFilter) -> Conditions:
    conditions: Conditions = []
    if chosen.state is not None:
        conditions.append(col(Image.state) == chosen.state)
    if not chosen.everything:
        deprecated = and_(col(Image.deprecated_at).is_not(None), col(Image.deprecated_at) <= utc_now())
        conditions += [col(Image.hidden).is_(False), ~deprecated]
    return conditions


def _checked_row(new: NewImage, *, owner: str) -> Image:
    image = Image(
        owner=owner,
        name=check_name(new.name),
        source=check_text(new.source, field="source", limit=MAX_SOURCE),
        declared_format=check_text(new.declared_format, field="declared_format", limit=16) if new.declared_format else None,
        checksum=check_checksum(new.checksum),
        description=check_text(new.description, field="description", limit=MAX_DESCRIPTION),
        tags=check_tags(new.tags),
        properties=check_properties(new.properties),
        declared=new.declared.as_json(),
        min_disk_gib=check_at_least(new.min_disk_gib, field="min_disk_gib", minimum=0),
        min_memory_mib=check_at_least(new.min_memory_mib, field="min_memory_mib", minimum=0),
        parent_image_id=new.parent_image_id,
        source_ecs_id=new.source_ecs_id,
        series=check_name(new.series) if new.series is not None else None,
        licences=sorted(new.licences),
        reserved_bytes=check_at_least(new.size, field="size", minimum=0),
    )
    merge_facts(image)
    return image
