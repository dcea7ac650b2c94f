"""API keys: how an account proves itself. A key is shown once; the catalog keeps a salted hash of it.

A key is 256 random bits, so one salted SHA-256 is as strong as it is and costs a command nothing. Accounts are
`models.accounts`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import Session, col, select

from models.exceptions import NotAuthenticated, NotVisible
from models.quotas import lock_account
from models.tables import Account, ApiKey, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import check_at_least

KEY_PREFIX = "ims_"
MAX_KEYS = 5
"""Keys of one account that prove it at a time. As many are compared for every name, known or not."""
MAX_GRACE_HOURS = 24 * 90
_NO_KEY = (bytes(16), bytes(32))


def add_key(session: Session, *, account: str) -> str:
    """Another key of the account. The oldest proves nothing any more where there would be more than MAX_KEYS."""
    for surplus in _live_keys(session, account=account)[MAX_KEYS - 1 :]:
        surplus.revoked_at = utc_now()
        session.add(surplus)
    key, salt = KEY_PREFIX + secrets.token_urlsafe(32), secrets.token_bytes(16)
    session.add(ApiKey(account=account, salt=salt, hash=_hash_key(key, salt=salt)))
    session.flush()
    return key


def rotate_key(session: Session, *, name: str, by: Actor, grace_hours: int = 0) -> str:
    """A new key in place of all others, which prove the account for `grace_hours` more. Raises NotVisible, FieldInvalid."""
    lock_account(session, name=name)
    check_at_least(grace_hours, field="grace_hours", minimum=0)
    check_at_least(MAX_GRACE_HOURS - grace_hours, field="grace_hours_left", minimum=0)
    end = utc_now() + timedelta(hours=grace_hours)
    for old in _live_keys(session, account=name):
        old.expires_at = min(old.expires_at or end, end)
        session.add(old)
    session.flush()
    key = add_key(session, account=name)
    write_audit(session, by=by, change=Change("account", name, name, new="key rotated", detail={"grace_hours": grace_hours}))
    return key


def revoke_keys(session: Session, *, name: str, by: Actor, key_id: str | None = None) -> int:
    """From the commit on none of the account's keys, or not this one, proves it. Returns how many were revoked.

    Raises NotVisible for an account or a key that is not there.
    """
    lock_account(session, name=name)
    keys = [key for key in _live_keys(session, account=name) if key_id in (None, key.id)]
    if key_id is not None and not keys:
        raise NotVisible("key", key_id)
    for key in keys:
        key.revoked_at = utc_now()
        session.add(key)
    detail = {"keys": [key.id for key in keys]}
    write_audit(session, by=by, change=Change("account", name, name, new="keys revoked", detail=detail))
    return len(keys)


def list_keys(session: Session, *, account: str) -> Sequence[ApiKey]:
    """The keys that prove the account now, newest first; what they are nobody can tell."""
    return _live_keys(session, account=account)


def authenticate(session: Session, *, name: str, key: str) -> Account:
    """The account, once a key has proved it. An unknown name costs the same work and gives the same answer."""
    account = session.get(Account, name)
    held = [(row.salt, row.hash) for row in _live_keys(session, account=name)][:MAX_KEYS]
    proofs = [hmac.compare_digest(_hash_key(key, salt=salt), expected) for salt, expected in _padded(held)]
    if account is None or not any(proofs):
        raise NotAuthenticated(name)
    return account


def _padded(held: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Always as many hashes to compare; those that stand for no key are never met."""
    return held + [_NO_KEY] * (MAX_KEYS - len(held))


def _live_keys(session: Session, *, account: str) -> Sequence[ApiKey]:
    query = select(ApiKey).where(ApiKey.account == account, _is_live(utc_now()))
    return session.exec(query.order_by(col(ApiKey.created_at).desc(), col(ApiKey.id))).all()


def _is_live(now: datetime) -> ColumnElement[bool]:
    return and_(col(ApiKey.revoked_at).is_(None), or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > now))


def _hash_key(key: str, *, salt: bytes) -> bytes:
    return hashlib.sha256(salt + key.encode("utf-8", "surrogateescape")).digest()
