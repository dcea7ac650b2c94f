"""Accounts: creation, and proof by API key. Their limits are enforced by `models.quotas`.

A key is 256 random bits, so one salted SHA-256 is as strong as it is and costs a command nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.exceptions import NameTaken, NotAuthenticated, NotVisible, OperatorOnly
from models.tables import Account, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import check_account_name, check_at_least

KEY_PREFIX = "ims_"
_NO_SALT = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one account may hold; bytes are guest-visible data before deduplication."""

    max_images: int = 50
    max_creations: int = 40
    max_bytes: int = 10 << 40


class NewAccount(NamedTuple):
    """`api_key` is shown once: the catalog keeps only its hash."""

    account: Account
    api_key: str


def create_account(
    session: Session, *, name: str, by: Actor, operator: bool = False, limits: Limits | None = None
) -> NewAccount:
    """Raises NameInvalid or NameTaken."""
    check_account_name(name)
    account = Account(name=name, operator=operator, key_salt=b"", key_hash=b"")
    _set_limits(account, limits or Limits())
    api_key = _set_new_key(account)
    try:
        with session.begin_nested():
            session.add(account)
    except IntegrityError as error:
        raise NameTaken("account", name) from error
    write_audit(session, by=by, change=Change("account", name, name, new="created", detail={"operator": operator}))
    return NewAccount(account, api_key)


def renew_key(session: Session, *, name: str, by: Actor) -> str:
    """Replace the account's API key; the old one proves nothing from the commit on."""
    account = get_account(session, name=name)
    api_key = _set_new_key(account)
    session.add(account)
    write_audit(session, by=by, change=Change("account", name, name, new="key renewed"))
    return api_key


def authenticate(session: Session, *, name: str, key: str) -> Account:
    """The account, once its key has proved it. An unknown name costs the same work and gives the same answer."""
    account = session.get(Account, name)
    salt, expected = (account.key_salt, account.key_hash) if account else (_NO_SALT, b"")
    proved = hmac.compare_digest(_hash_key(key, salt=salt), expected)
    if account is None or not proved:
        raise NotAuthenticated(name)
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
    """Raises OperatorOnly; `step` completes "may not ..."."""
    account = get_account(session, name=name)
    if not account.operator:
        raise OperatorOnly(name, step)
    return account


def _set_new_key(account: Account) -> str:
    api_key = KEY_PREFIX + secrets.token_urlsafe(32)
    account.key_salt = secrets.token_bytes(16)
    account.key_hash = _hash_key(api_key, salt=account.key_salt)
    account.key_created_at = utc_now()
    return api_key


def _hash_key(key: str, *, salt: bytes) -> bytes:
    return hashlib.sha256(salt + key.encode("utf-8", "surrogateescape")).digest()


def _set_limits(account: Account, limits: Limits) -> None:
    account.max_images = check_at_least(limits.max_images, field="max_images", minimum=0)
    account.max_creations = check_at_least(limits.max_creations, field="max_creations", minimum=0)
    account.max_bytes = check_at_least(limits.max_bytes, field="max_bytes", minimum=0)
