"""What the operator's reconciliation asks of the catalog, whoever owns it. What it does about the answers is `tasks.repairs`.

Abandoned operations are `models.operations`, stale locks `models.locks`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import exists, or_
from sqlmodel import Session, col, select

from models.tables import Ecs, Image, Operation
from models.vocabulary import UNFINISHED_IMAGE, ImageState, OperationState


def orphaned_images(session: Session, *, only: str | None = None) -> Sequence[Image]:
    """Unfinished images that no running operation makes, oldest first; with `only` that image or none."""
    making = exists().where(col(Operation.subject_id) == col(Image.id), col(Operation.state) == OperationState.RUNNING)
    query = select(Image).where(col(Image.state).in_(UNFINISHED_IMAGE), ~making).order_by(col(Image.created_at))
    if only is not None:
        query = query.where(Image.id == only)
    return session.exec(query.execution_options(populate_existing=True)).all()


def ecs_in_use(session: Session, *, ids: Collection[str], but: str) -> set[str]:
    """Those of the ECSs that a running operation other than `but` has locked or is building."""
    uses = or_(col(Operation.id) == col(Ecs.locked_by), col(Operation.subject_id) == col(Ecs.id))
    query = select(Ecs.id).join(Operation, uses)
    running = query.where(Operation.state == OperationState.RUNNING, Operation.id != but, col(Ecs.id).in_(ids))
    return set(session.exec(running).all())


def ecs_rows(session: Session, *, ids: Collection[str]) -> dict[str, Ecs]:
    """The rows of these ECSs by id, tombstones and those of other hosts among them; an id without a row is left out."""
    return {row.id: row for row in session.exec(select(Ecs).where(col(Ecs.id).in_(ids))).all()}


def operation_rows(session: Session, *, ids: Collection[str]) -> dict[str, Operation]:
    """These operations by id, whoever began them."""
    return {row.id: row for row in session.exec(select(Operation).where(col(Operation.id).in_(ids))).all()}


def deleted_images(session: Session, *, ids: Collection[str]) -> set[str]:
    """Those of the images that are tombstones."""
    query = select(Image.id).where(col(Image.id).in_(ids), Image.state == ImageState.DELETED)
    return set(session.exec(query).all())


def hold_operation(session: Session, *, operation_id: str) -> Operation | None:
    """The operation, which nobody can take up before the caller's transaction ends."""
    query = select(Operation).where(Operation.id == operation_id).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).first()
