"""The lock of an ECS: one operation at a time changes or captures it. Operations themselves are `models.operations`.

A lock is worth what its operation is: one that ended, or whose process died, holds nothing and is taken over.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import update
from sqlmodel import Session, col, select

from models.exceptions import EcsLocked, NotVisible
from models.operations import Owner, is_held
from models.tables import Ecs, Operation


def lock_ecs(session: Session, *, ecs_id: str, operation_id: str, is_alive: Callable[[Owner], bool]) -> Ecs:
    """Give the ECS to the operation until `unlock_ecs`; again is the same. Raises EcsLocked, NotVisible."""
    query = select(Ecs).where(Ecs.id == ecs_id).with_for_update()
    ecs = session.exec(query.execution_options(populate_existing=True)).first()
    if ecs is None:
        raise NotVisible("ecs", ecs_id)
    if ecs.locked_by not in (None, operation_id) and (holder := _holder(session, ecs, is_alive)):
        raise EcsLocked(ecs_id, holder.kind, holder.id)
    ecs.locked_by = operation_id
    session.add(ecs)
    session.flush()
    return ecs


def unlock_ecs(session: Session, *, operation_id: str) -> None:
    """Release whatever ECS the operation holds; nothing happens where it holds none."""
    held = update(Ecs).where(col(Ecs.locked_by) == operation_id).values(locked_by=None)
    session.exec(held.execution_options(synchronize_session="fetch"))


def ecs_locked_by(session: Session, *, operation_id: str) -> Ecs | None:
    """The ECS that the operation has to itself."""
    return session.exec(select(Ecs).where(Ecs.locked_by == operation_id)).first()


def stale_locks(session: Session, *, host: str, is_alive: Callable[[Owner], bool]) -> list[Ecs]:
    """ECSs of a host that are locked by an operation that nobody runs any more: for the operator's reconciliation alone."""
    locked = session.exec(select(Ecs).where(Ecs.host == host, col(Ecs.locked_by).is_not(None))).all()
    return [ecs for ecs in locked if _holder(session, ecs, is_alive) is None]


def _holder(session: Session, ecs: Ecs, is_alive: Callable[[Owner], bool]) -> Operation | None:
    """The operation that really holds the ECS."""
    operation = session.get(Operation, ecs.locked_by) if ecs.locked_by else None
    return operation if operation is not None and is_held(operation, is_alive=is_alive) else None
