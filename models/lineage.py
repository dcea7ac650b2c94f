"""Lineage: the tree of images captured from ECSs that were launched from images, with the account's ECSs that run each.

Read-only. A link from an image to its parent is the business of the image's owner, so links of the account's own images alone
are followed: upwards until one ends at an image of somebody else, which stays without a name where the account does not see it,
and downwards over the account's own images. How a tree is printed and drawn is `tasks.trees`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import CTE, ColumnElement, and_, case, exists, func, literal, or_
from sqlalchemy.orm import aliased, lazyload, load_only
from sqlmodel import Session, col, select

from models.images import get_image, image_type, visible_to
from models.tables import Ecs, Image
from models.vocabulary import EcsState, ImageState, ImageType

MAX_NODES = 1000
"""Images in one tree, and as many ECSs; the path to the asked image is always among them."""
GENERATIONS_ABOVE = 50
GENERATIONS_BELOW = 100
"""Counted from the top of the tree. Deeper than that a tree can be neither read nor written as JSON."""
HIDDEN = "hidden"
"""The state of an ancestor that the account does not see."""

# The columns that are read; among the others are consoles and pictures of screens.
SHOWN: tuple[Any, ...] = (
    Image.id,
    Image.name,
    Image.owner,
    Image.state,
    Image.public,
    Image.parent_image_id,
    Image.source_ecs_id,
    Image.created_at,
)
RUN: tuple[Any, ...] = (Ecs.id, Ecs.name, Ecs.state, Ecs.image_id)


@dataclass(frozen=True, slots=True)
class LineageEcs:
    """An ECS of the account that runs an image."""

    id: str
    name: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageNode:
    """An image, the account's ECSs that run it and the images captured from those, oldest first.

    `source_ecs_name` is empty for an ECS of somebody else. `more_ecs` counts the ECSs of this image beyond the bound; `more`,
    at the top alone, the images of the tree. The top has a `parent_image_id` where the tree goes on above the bound.
    """

    id: str
    name: str = ""
    state: str = HIDDEN
    type: str = ""
    owner: str = ""
    parent_image_id: str | None = None
    source_ecs_id: str | None = None
    source_ecs_name: str = ""
    ecs: tuple[LineageEcs, ...] = ()
    more_ecs: int = 0
    children: tuple[LineageNode, ...] = ()
    more: int = 0


def lineage_of(session: Session, *, account: str, image_id: str, limit: int = MAX_NODES) -> LineageNode:
    """The whole tree that a visible image is in, from its topmost ancestor; NotVisible for any other image.

    At most `limit` images and as many ECSs, nearest to the top first. Deleted images of the account are shown where something
    that is not deleted came from them.
    """
    image = get_image(session, account=account, image_id=image_id)
    path = _path_to_top(session, account=account, image_id=image.id)
    found = _Found(account=account, top=path[-1])
    _find_images(session, found, path=path, limit=max(limit, len(path)))
    _find_ecs(session, found, limit=max(limit, len(found.rows) + 1))
    found.type = _type_of_top(session, found)
    return replace(_node(found, found.top), more=found.total - len(found.rows))


@dataclass(slots=True, kw_only=True)
class _Found:
    """What the queries gave: images by id, ids by parent and oldest first, ECSs by image; both totals count what is beyond the
    bound as well."""

    account: str
    top: str
    type: str = ""
    rows: dict[str, tuple[Image, str]] = field(default_factory=dict)
    total: int = 0
    children: dict[str | None, list[str]] = field(default_factory=dict)
    ecs: dict[str, list[LineageEcs]] = field(default_factory=dict)
    ecs_total: dict[str, int] = field(default_factory=dict)


def _path_to_top(session: Session, *, account: str, image_id: str) -> Sequence[str]:
    """Ids from the image to its topmost ancestor that the account's own images lead to."""
    start = select(Image.id, Image.parent_image_id, Image.owner, literal(0).label("height")).where(Image.id == image_id)
    path = start.cte("path", recursive=True)
    leads = and_(col(Image.id) == path.c.parent_image_id, path.c.owner == account, path.c.height < GENERATIONS_ABOVE)
    parent = select(Image.id, Image.parent_image_id, Image.owner, path.c.height + 1).join(path, leads)
    path = path.union_all(parent)
    return session.exec(select(path.c.id).order_by(path.c.height)).all()


def _find_images(session: Session, found: _Found, *, path: Sequence[str], limit: int) -> None:
    """The images that the account sees and its own deleted ones: the path first, then parents before children."""
    below = _below(found)
    kept = _kept(found, below)
    source, off_path = aliased(Ecs), case((col(Image.id).in_(path), 0), else_=1)
    query = (
        select(Image, source.name, func.count().over())
        .join(kept, kept.c.id == col(Image.id))
        .join(below, below.c.id == col(Image.id))
        .outerjoin(source, and_(col(source.id) == col(Image.source_ecs_id), col(source.owner) == found.account))
        .where(or_(visible_to(found.account), col(Image.owner) == found.account))
        .order_by(off_path, below.c.depth, col(Image.created_at), col(Image.id))
        .options(load_only(*SHOWN), lazyload("*"))
    )
    for image, source_name, total in session.exec(query.limit(limit)):
        found.rows[image.id], found.total = (image, source_name or ""), total
    for image, _ in sorted(found.rows.values(), key=lambda row: (row[0].created_at, row[0].id)):
        found.children.setdefault(image.parent_image_id, []).append(image.id)


def _below(found: _Found) -> CTE:
    """(id, depth) of the top and of all the account's images under it, deleted ones too."""
    below = select(Image.id, literal(0).label("depth")).where(Image.id == found.top).cte("below", recursive=True)
    mine = and_(col(Image.owner) == found.account, below.c.depth < GENERATIONS_BELOW)
    return below.union_all(
        select(Image.id, below.c.depth + 1).join(below, col(Image.parent_image_id) == below.c.id).where(mine)
    )


def _kept(found: _Found, below: CTE) -> CTE:
    """Ids of what is not deleted or still runs, and of everything between that and the top."""
    runs = exists().where(*_running(found.account), col(Ecs.image_id) == col(Image.id))
    alive = or_(col(Image.state) != ImageState.DELETED, runs)
    kept = select(Image.id).join(below, below.c.id == col(Image.id)).where(alive).cte("kept", recursive=True)
    return kept.union(select(Image.parent_image_id).join(kept, kept.c.id == col(Image.id)).where(Image.id != found.top))


def _running(account: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(Ecs.owner) == account, col(Ecs.state) != EcsState.DELETED


def _find_ecs(session: Session, found: _Found, *, limit: int) -> None:
    """The account's ECSs over those images and the top: every image's oldest before any image's second."""
    image_ids = {found.top, *found.rows}
    place = func.row_number().over(partition_by=col(Ecs.image_id), order_by=(col(Ecs.created_at), col(Ecs.id)))
    total = func.count().over(partition_by=col(Ecs.image_id))
    query = select(Ecs, total).where(*_running(found.account), col(Ecs.image_id).in_(image_ids))
    query = query.options(load_only(*RUN), lazyload("*")).order_by(place, col(Ecs.created_at), col(Ecs.id))
    for ecs, count in session.exec(query.limit(limit)):
        found.ecs.setdefault(ecs.image_id, []).append(LineageEcs(ecs.id, ecs.name, ecs.state))
        found.ecs_total[ecs.image_id] = count


def _node(found: _Found, image_id: str) -> LineageNode:
    ecs = tuple(found.ecs.get(image_id, ()))
    node = LineageNode(
        id=image_id,
        ecs=ecs,
        more_ecs=found.ecs_total.get(image_id, 0) - len(ecs),
        children=tuple(_node(found, child) for child in found.children.get(image_id, ())),
    )
    return replace(node, **_facts(found, *found.rows[image_id])) if image_id in found.rows else node


def _type_of_top(session: Session, found: _Found) -> str:
    """What the top is to the account, which may be somebody else's; all below it is its own."""
    row = found.rows.get(found.top)
    return image_type(session, account=found.account, image=row[0]) if row else ""


def _facts(found: _Found, image: Image, source_name: str) -> dict[str, Any]:
    """What the account may know of the image; where it came from is its owner's business."""
    own = ImageType.PUBLIC if image.public else ImageType.PRIVATE
    kind = found.type if image.id == found.top else own
    facts: dict[str, Any] = {"name": image.name, "state": image.state, "type": kind, "owner": image.owner}
    if image.owner == found.account:
        facts |= {
            "parent_image_id": image.parent_image_id,
            "source_ecs_id": image.source_ecs_id,
            "source_ecs_name": source_name,
        }
    return facts
