"""Images: which of them an account sees, and every change of one. States are `models.states`, limits `models.quotas`.

`visible_to` is the only place that decides on sight; `own_image` the only one that decides on change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, exists, or_
from sqlmodel import Session, col, select

from models.exceptions import DeletionRefused, NotVisible
from models.facts import GuestFacts, merge_facts
from models.paging import Page, fetch_page
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
from models.vocabulary import EcsState, ImageState, ImageType


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFilter:
    """Which of the visible images to list; hidden, and deprecated ones whose date has come, only when asked for."""

    type: ImageType | None = None
    state: ImageState | None = None
    name: str | None = None
    everything: bool = False


def visible_to(account: str) -> ColumnElement[bool]:
    """The SQL condition under which an account sees an image: its own, and what is public and active."""
    public = and_(col(Image.public), col(Image.state) == ImageState.ACTIVE)
    return and_(col(Image.state) != ImageState.DELETED, or_(col(Image.owner) == account, public))


def image_type(image: Image) -> ImageType:
    """What an image is to an account that sees it."""
    return ImageType.PUBLIC if image.public else ImageType.PRIVATE


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


def list_images(
    session: Session,
    *,
    account: str,
    chosen: ImageFilter | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[Image]:
    """A page of the visible images, newest first."""
    query = select(Image).where(visible_to(account), *_conditions(chosen or ImageFilter()))
    return fetch_page(session, query=query, table=Image, after=after, limit=limit)


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
    transition(session, subject=image, new=ImageState.DELETED, by=by, values={"deleted_at": utc_now()})
    return image


def _conditions(chosen: ImageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if chosen.type is not None:
        conditions.append(col(Image.public).is_(chosen.type is ImageType.PUBLIC))
    if chosen.state is not None:
        conditions.append(col(Image.state) == chosen.state)
    if chosen.name is not None:
        conditions.append(col(Image.name) == chosen.name)
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
        reserved_bytes=check_at_least(new.size, field="size", minimum=0),
    )
    merge_facts(image)
    return image
