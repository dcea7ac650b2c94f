"""Series of captured images, and which of them retention would delete. A series is an owner, a name and the ECS it captures.

It decides and deletes nothing: `models.images` does that, for the steps in `tasks.series`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, and_, cast, func
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from models.images import visible_to
from models.tables import Disk, Ecs, Image
from models.validation import check_at_least
from models.vocabulary import UNFINISHED_IMAGE, EcsState, ImageState

FINISHED = (ImageState.ACTIVE, ImageState.DEACTIVATED)
"""States of an image whose capture succeeded: the ones that retention counts."""
HEAVY: tuple[Any, ...] = (Image.boot_detail, Image.capture_detail)
"""Columns with consoles and pictures of screens, which nobody needs to choose by."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An image that stays, and why."""

    image: Image
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What retention makes of one series, each newest first."""

    kept: Sequence[Kept]
    surplus: Sequence[Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Ids of the finished images, newest first, of the newest active one, and since when there is a finished one."""

    finished: Sequence[str]
    active: str | None
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSum:
    """One series in a list. `ecs` is empty for an ECS of somebody else; `bytes_stored` counts a shared chunk in every image."""

    series: str
    ecs_id: str
    ecs: str
    images: int
    newest: datetime
    oldest: datetime
    bytes_stored: int


def images_of_series(session: Session, *, account: str, series: str, source_ecs_id: str, lock: bool = False) -> Sequence[Image]:
    """The account's own images of a series, newest first; `lock` keeps others from changing them in this transaction."""
    query = select(Image).where(
        Image.owner == account, Image.series == series, Image.source_ecs_id == source_ecs_id, visible_to(account)
    )
    newest = query.order_by(col(Image.created_at).desc(), col(Image.id).desc()).options(*(defer(column) for column in HEAVY))
    if lock:
        newest = newest.with_for_update().execution_options(populate_existing=True)
    return session.exec(newest).all()


def surplus(session: Session, *, account: str, series: str, source_ecs_id: str, keep: int, lock: bool = False) -> Retention:
    """What is beyond the newest `keep` finished images, and what is in error and older than the newest of them.

    Never the newest active image, a protected or an unfinished one, or one that an ECS is being launched from. Whoever deletes
    passes `lock`, so that what it deletes is what was chosen. Raises FieldInvalid for a `keep` below 1.
    """
    check_at_least(keep, field="keep", minimum=1)
    images = images_of_series(session, account=account, series=series, source_ecs_id=source_ecs_id, lock=lock)
    launching = _launching(session, images)  # after the locks: no launch can begin from here on
    place = _place(images)
    reasons = [(image, _reason_to_stay(image, place, keep, launching)) for image in images]
    return Retention(
        kept=[Kept(image, reason) for image, reason in reasons if reason],
        surplus=[image for image, reason in reasons if not reason],
    )


def list_series(session: Session, *, account: str) -> list[SeriesSum]:
    """Every series of the account with its sums, by name and ECS."""
    stored = func.coalesce(cast(func.sum(Disk.stored_bytes), BigInteger), 0)  # PostgreSQL's sum of large integers is a decimal
    columns: tuple[Any, ...] = (
        Image.series,
        Image.source_ecs_id,
        func.coalesce(Ecs.name, ""),
        func.count(func.distinct(Image.id)),
        func.max(Image.created_at),
        func.min(Image.created_at),
        stored,
    )
    query = (
        select(*columns)
        .select_from(Image)
        .outerjoin(Disk, col(Disk.image_id) == col(Image.id))
        .outerjoin(Ecs, and_(col(Ecs.id) == col(Image.source_ecs_id), col(Ecs.owner) == account))
        .where(Image.owner == account, visible_to(account))
        .where(col(Image.series).is_not(None), col(Image.source_ecs_id).is_not(None))
        .group_by(col(Image.series), col(Image.source_ecs_id), col(Ecs.name))
        .order_by(col(Image.series), col(Ecs.name), col(Image.source_ecs_id))
    )
    names = tuple(SeriesSum.__dataclass_fields__)
    return [SeriesSum(**dict(zip(names, row, strict=True))) for row in session.exec(query).all()]


def _launching(session: Session, images: Sequence[Image]) -> set[str]:
    """Those of the images that somebody's ECS is being built from."""
    ids = [image.id for image in images]
    return set(session.exec(select(Ecs.image_id).where(col(Ecs.image_id).in_(ids), Ecs.state == EcsState.BUILDING)).all())


def _reason_to_stay(image: Image, place: _Place, keep: int, launching: set[str]) -> str:
    """Why an image of the series stays; empty where it does not."""
    if image.state in UNFINISHED_IMAGE:
        return "unfinished"
    if image.id in place.finished[:keep]:
        return f"one of the newest {keep}"
    if image.id == place.active:
        return "the newest active one"
    if image.state is ImageState.ERROR and (place.since is None or image.created_at >= place.since):
        return "in error, and nothing newer is active"
    if image.protected:
        return "protected"
    return "an ECS is being launched from it" if image.id in launching else ""


def _place(images: Sequence[Image]) -> _Place:
    finished = [image for image in images if image.state in FINISHED]
    return _Place(
        finished=[image.id for image in finished],
        active=next((image.id for image in finished if image.state is ImageState.ACTIVE), None),
        since=finished[0].created_at if finished else None,
    )
