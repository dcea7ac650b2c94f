"""What the catalog holds, over all accounts, in numbers: for operators alone. Who may ask is decided by the caller.

Sums of what has ended are `models.tallies`, single runs `models.runs`. `tasks.metrics` and `tasks.capacity` show all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, exists, func
from sqlmodel import Session, col, select

from models.licences import open_to_some
from models.market_tables import Member, Version
from models.tables import Disk, Ecs, Image, Operation
from models.vocabulary import EcsState, ImageState, ImageType, MemberState, OperationState

LARGEST = 10


@dataclass(frozen=True, slots=True)
class ImageCount:
    """Images of one state. Their type is the widest circle that may launch them: public, marketplace, shared or private."""

    type: ImageType
    state: ImageState
    images: int


@dataclass(frozen=True, slots=True)
class EcsCount:
    """ECSs of one host in one state; tombstones are not counted."""

    host: str
    state: EcsState
    ecs: int


@dataclass(frozen=True, slots=True)
class Running:
    """Operations of one kind that nobody has ended yet, and since when the oldest of them is there."""

    kind: str
    operations: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Bytes:
    """Of the disks of images that are not deleted: their sizes as guests see them, their data, and that compressed.

    A chunk that several disks hold is counted with each of them.
    """

    virtual: int
    data: int
    stored: int


@dataclass(frozen=True, slots=True)
class Holder:
    """What one account's images hold, as `Bytes` counts it."""

    account: str
    images: int
    data: int
    stored: int


def count_images(session: Session) -> list[ImageCount]:
    """Images that are not deleted, by type and state."""
    listed = exists().where(col(Version.image_id) == col(Image.id), open_to_some())
    accepted = exists().where(col(Member.image_id) == col(Image.id), col(Member.state) == MemberState.ACCEPTED)
    kind = case(
        (col(Image.public), ImageType.PUBLIC.value),
        (listed, ImageType.MARKETPLACE.value),
        (accepted, ImageType.SHARED.value),
        else_=ImageType.PRIVATE.value,
    )
    kept = [state for state in ImageState if state is not ImageState.DELETED]  # not "all but one": that no index finds
    typed = select(kind.label("type"), col(Image.state)).where(col(Image.state).in_(kept)).subquery()
    query: Any = select(typed.c.type, typed.c.state, func.count()).group_by(typed.c.type, typed.c.state)
    rows = session.exec(query.order_by(typed.c.type, typed.c.state)).all()
    return [ImageCount(ImageType(each), state, images) for each, state, images in rows]


def count_ecs(session: Session) -> list[EcsCount]:
    """ECSs by host and state."""
    query = select(Ecs.host, Ecs.state, func.count()).where(Ecs.state != EcsState.DELETED)
    rows = session.exec(query.group_by(col(Ecs.host), col(Ecs.state)).order_by(col(Ecs.host), col(Ecs.state))).all()
    return [EcsCount(host, EcsState(state), ecs) for host, state, ecs in rows]


def count_running(session: Session) -> list[Running]:
    """Operations under way or abandoned, by kind."""
    query = select(Operation.kind, func.count(), func.min(Operation.created_at)).where(
        Operation.state == OperationState.RUNNING
    )
    return [Running(*row) for row in session.exec(query.group_by(col(Operation.kind)).order_by(col(Operation.kind))).all()]


def count_failed(session: Session) -> int:
    """Operations that failed and were not tried again."""
    return session.exec(select(func.count()).where(Operation.state == OperationState.FAILED)).one()


def sum_bytes(session: Session) -> Bytes:
    """Over all disks of images that are not deleted."""
    sums = select(func.sum(Disk.virtual_size), func.sum(Disk.data_bytes), func.sum(Disk.stored_bytes))
    deleted = select(Image.id).where(Image.state == ImageState.DELETED)
    return Bytes(*(int(value or 0) for value in session.exec(sums.where(col(Disk.image_id).not_in(deleted))).one()))


def largest_holders(session: Session) -> list[Holder]:
    """The accounts whose images hold most, compressed; at most LARGEST."""
    stored = func.coalesce(func.sum(Disk.stored_bytes), 0)
    query = (
        select(Image.owner, func.count(func.distinct(Image.id)), func.coalesce(func.sum(Disk.data_bytes), 0), stored)
        .select_from(Image)
        .outerjoin(Disk, col(Disk.image_id) == col(Image.id))
        .where(Image.state != ImageState.DELETED)
        .group_by(col(Image.owner))
        .order_by(stored.desc(), col(Image.owner))
        .limit(LARGEST)
    )
    return [Holder(owner, images, int(data), int(held)) for owner, images, data, held in session.exec(query).all()]
