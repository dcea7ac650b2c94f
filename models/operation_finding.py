"""Which operations there are, by id, key, run or subject. How they are held and changed is `models.operations`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import Session, col, select

from models.exceptions import NotVisible
from models.tables import Operation
from models.vocabulary import OperationState

KEYS_AT_ONCE = 500


def get_operation(session: Session, *, account: str, operation_id: str) -> Operation:
    found = session.exec(select(Operation).where(Operation.id == operation_id, Operation.account == account)).first()
    if found is None:
        raise NotVisible("operation", operation_id)
    return found


def find_operation(session: Session, *, account: str, kind: str, key: str) -> Operation | None:
    """The account's operation of that kind and key."""
    query = select(Operation).where(Operation.account == account, Operation.kind == kind, Operation.key == key)
    return session.exec(query).first()


def operation_of_run(session: Session, *, account: str, flow_run_id: str) -> Operation | None:
    """The account's newest operation that this flow run held last."""
    query = select(Operation).where(Operation.account == account, Operation.flow_run_id == flow_run_id)
    return session.exec(query.order_by(col(Operation.created_at).desc())).first()


def running_operations(session: Session, *, host: str | None = None) -> Sequence[Operation]:
    """Operations that nobody finished, oldest first, whoever began them: for the operator's reconciliation alone."""
    query = select(Operation).where(Operation.state == OperationState.RUNNING).order_by(col(Operation.created_at))
    if host is not None:
        query = query.where(Operation.lease_host == host)
    return session.exec(query).all()


def list_operations(session: Session, *, account: str, subject_id: str | None = None, limit: int = 50) -> Sequence[Operation]:
    """The account's operations, newest first."""
    query = select(Operation).where(Operation.account == account)
    if subject_id is not None:
        query = query.where(Operation.subject_id == subject_id)
    return session.exec(query.order_by(col(Operation.created_at).desc()).limit(limit)).all()


def operations_of_keys(session: Session, *, account: str, kind: str, keys: Collection[str]) -> dict[str, Operation]:
    """The account's operations of these idempotency keys, by key."""
    wanted, found = sorted(keys), list[Operation]()
    for place in range(0, len(wanted), KEYS_AT_ONCE):
        some = col(Operation.key).in_(wanted[place : place + KEYS_AT_ONCE])
        found += session.exec(select(Operation).where(Operation.account == account, Operation.kind == kind, some)).all()
    return {operation.key: operation for operation in found}


def unfinished_key(session: Session, *, account: str, kind: str, fingerprint: str) -> str | None:
    """Key of the account's newest operation of this kind and fingerprint that is not done: what a keyless repeat continues."""
    query = (
        select(Operation.key)
        .where(
            Operation.account == account,
            Operation.kind == kind,
            Operation.fingerprint == fingerprint,
            Operation.state != OperationState.DONE,
        )
        .order_by(col(Operation.created_at).desc())
    )
    return session.exec(query).first()
