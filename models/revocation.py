"""Revocation: an image that must not be launched any more, and what came of it. The tree to look at is `models.lineage`.

An owner revokes its own images; what others made of a shared one is theirs. An operator revokes all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import literal
from sqlalchemy.orm import lazyload, load_only
from sqlmodel import Session, col, select

from models.accounts import get_account
from models.exceptions import NotVisible
from models.lineage import RUN
from models.states import transition
from models.tables import Ecs, Image
from models.trail import Actor
from models.versions import versions_of_image, withdraw_version
from models.vocabulary import EcsState, ImageState, WithdrawnFor

MAX_REVOKED = 10_000
GENERATIONS = 1_000


@dataclass(frozen=True, slots=True)
class RunningEcs:
    """An ECS that runs something revoked."""

    id: str
    name: str
    owner: str
    state: str
    host: str
    image_id: str


def images_to_revoke(session: Session, *, account: str, image_id: str, descendants: bool) -> list[str]:
    """Ids of the image and, if asked, of all that descends from it, parents first: the account's own, or anybody's for an
    operator. Raises NotVisible for an image that the account may not revoke."""
    image = session.get(Image, image_id)
    everybody = get_account(session, name=account).operator
    if image is None or image.state is ImageState.DELETED or not (everybody or image.owner == account):
        raise NotVisible("image", image_id)
    if not descendants:
        return [image_id]
    below = select(Image.id, literal(0).label("depth")).where(Image.id == image_id).cte("below", recursive=True)
    children = select(Image.id, below.c.depth + 1).join(below, col(Image.parent_image_id) == below.c.id)
    below = below.union_all(children.where(below.c.depth < GENERATIONS))
    query = select(Image.id).join(below, below.c.id == col(Image.id)).where(Image.state != ImageState.DELETED)
    if not everybody:
        query = query.where(Image.owner == account)
    return list(session.exec(query.order_by(below.c.depth, col(Image.created_at)).limit(MAX_REVOKED)).all())


def revoke_image(session: Session, *, image_id: str, by: Actor) -> bool:
    """Deactivate the image and withdraw what the marketplace offers of it; False where neither was left to do.

    Raises NotVisible for an image that the account may not revoke.
    """
    image = _held_image(session, image_id=image_id, account=by.account)
    versions = versions_of_image(session, image_id=image_id)
    for version in sorted(versions, key=lambda version: version.listing_id):  # no two runs wait for each other's listing
        withdraw_version(session, version_id=version.id, scope=WithdrawnFor.ALL, by=by)
    if image.state is ImageState.ACTIVE:
        transition(session, subject=image, new=ImageState.DEACTIVATED, by=by, values={"revoked_by": by.account})
        return True
    if image.state is ImageState.DEACTIVATED and image.owner != by.account:  # its owner cannot bring it back any more
        image.revoked_by = by.account
        session.add(image)
        session.flush()
    return bool(versions)


def restore_image(session: Session, *, image_id: str, by: Actor) -> Image:
    """Take a revocation back: the image is active again, its versions stay withdrawn. An operator may for any account's.

    Raises NotVisible for an image that the account may not revoke, or that nobody revoked; TransitionRefused.
    """
    image = _held_image(session, image_id=image_id, account=by.account)
    operator = get_account(session, name=by.account).operator
    if image.revoked_by is None or not (operator or image.revoked_by == by.account):
        raise NotVisible("image", image_id)
    transition(session, subject=image, new=ImageState.ACTIVE, by=by, values={"revoked_by": None})
    return image


def running_ecs(session: Session, *, account: str, image_ids: Sequence[str]) -> list[RunningEcs]:
    """ECSs over these images that are not deleted: the account's own, or everybody's for an operator; by owner and name."""
    query = select(Ecs).where(col(Ecs.image_id).in_(image_ids), Ecs.state != EcsState.DELETED)
    if not get_account(session, name=account).operator:
        query = query.where(Ecs.owner == account)
    query = query.options(load_only(*RUN, *_OWNED), lazyload("*")).order_by(col(Ecs.owner), col(Ecs.name), col(Ecs.id))
    return [RunningEcs(ecs.id, ecs.name, ecs.owner, ecs.state, ecs.host, ecs.image_id) for ecs in session.exec(query)]


_OWNED: tuple[Any, ...] = (Ecs.owner, Ecs.host)


def _held_image(session: Session, *, image_id: str, account: str) -> Image:
    """The image, locked before anybody looks at its versions: none is submitted beside us."""
    query = select(Image).where(Image.id == image_id, Image.state != ImageState.DELETED).with_for_update()
    image = session.exec(query.execution_options(populate_existing=True)).first()
    if image is None or (image.owner != account and not get_account(session, name=account).operator):
        raise NotVisible("image", image_id)
    return image
