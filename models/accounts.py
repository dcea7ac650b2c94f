"""Accounts: who they are, their roles and limits. Proof is `models.keys`, enforcement of the limits `models.quotas`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.exceptions import NameTaken, NotVisible, RoleNeeded
from models.keys import add_key
from models.quotas import lock_account
from models.tables import Account
from models.trail import Actor, Change, write_audit
from models.validation import check_account_name, check_at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one account may hold; bytes are guest-visible data before deduplication."""

    max_images: int = 50
    max_creations: int = 40
    max_bytes: int = 10 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChange:
    """What to set on an account; None leaves as it is."""

    operator: bool | None = None
    reviewer: bool | None = None
    max_images: int | None = None
    max_creations: int | None = None
    max_bytes: int | None = None


class NewAccount(NamedTuple):
    """`api_key` is shown once: the catalog keeps only its hash."""

    account: Account
    api_key: str


def create_account(
    session: Session,
    *,
    name: str,
    by: Actor,
    operator: bool = False,
    reviewer: bool = False,
    limits: Limits | None = None,
) -> NewAccount:
    """Raises NameInvalid or NameTaken."""
    check_account_name(name)
    account = Account(name=name, operator=operator, reviewer=reviewer)
    _set_limits(account, limits or Limits())
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError as error:
        raise NameTaken("account", name) from error
    api_key = add_key(session, account=name)
    detail = {"operator": operator, "reviewer": reviewer}
    write_audit(session, by=by, change=Change("account", name, name, new="created", detail=detail))
    return NewAccount(account, api_key)


def change_account(session: Session, *, name: str, change: AccountChange, by: Actor) -> Account:
    """Set roles and limits; what is held beyond a smaller limit stays. Raises NotVisible or FieldInvalid."""
    account = lock_account(session, name=name)
    asked = {field: value for field, value in asdict(change).items() if value is not None}
    old = {field: getattr(account, field) for field in asked}
    account.sqlmodel_update(asked)
    _set_limits(account, Limits(**{field: getattr(account, field) for field in Limits.__dataclass_fields__}))
    session.add(account)
    session.flush()
    detail = {"old": old, "new": asked}
    write_audit(session, by=by, change=Change("account", name, name, new="changed", detail=detail))
    return account


def get_account(session: Session, *, name: str) -> Account:
    account = session.get(Account, name)
    if account is None:
        raise NotVisible("account", name)
    return account


def list_accounts(session: Session) -> Sequence[Account]:
    """Every account by name; only an operator's command may show them."""
    return session.exec(select(Account).order_by(col(Account.name))).all()


def require_operator(session: Session, *, name: str, step: str) -> Account:
    """Raises RoleNeeded; `step` completes "may not ..."."""
    account = get_account(session, name=name)
    if not account.operator:
        raise RoleNeeded(name, "operator", step)
    return account


def require_reviewer(session: Session, *, name: str, step: str) -> Account:
    """Raises RoleNeeded; an operator is no reviewer by that alone."""
    account = get_account(session, name=name)
    if not account.reviewer:
        raise RoleNeeded(name, "reviewer", step)
    return account


def _set_limits(account: Account, limits: Limits) -> None:
    account.max_images = check_at_least(limits.max_images, field="max_images", minimum=0)
    account.max_creations = check_at_least(limits.max_creations, field="max_creations", minimum=0)
    account.max_bytes = check_at_least(limits.max_bytes, field="max_bytes", minimum=0)
