"""`ims account`, `ims flavor`, `ims audit`: catalog reads, and the making of accounts, which an operator does."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from models import accounts, keys
from models.flavors import list_flavors
from models.quotas import usage
from models.tables import Account
from models.trail import Actor, list_audit
from tasks.engine.settings import load_settings
from tasks.resources import catalog, require_account

KEY_FIELDS = {"id", "created_at", "expires_at"}


def create(given: Namespace) -> dict[str, Any]:
    """Make an account. Its API key is in the answer and nowhere else."""
    with catalog(write=True) as session:
        operator = _operator(session, step="create accounts")
        made = accounts.create_account(session, name=given.name, reviewer=given.reviewer, by=Actor(operator))
        return {"name": made.account.name, "api_key": made.api_key}


def change(given: Namespace) -> dict[str, Any]:
    """Set an account's roles and limits."""
    wanted = {field: getattr(given, field) for field in accounts.AccountChange.__dataclass_fields__}
    with catalog(write=True) as session:
        operator = _operator(session, step="change accounts")
        changed = accounts.change_account(session, name=given.name, change=accounts.AccountChange(**wanted), by=Actor(operator))
        return _shown(changed)


def show(given: Namespace) -> dict[str, Any]:
    """The account with what it uses of its limits: one's own, or any as an operator."""
    with catalog() as session:
        name = _own_or_any(session, given.name, step="show accounts")
        used = usage(session, account=name)
        return _shown(accounts.get_account(session, name=name)) | {"used": used._asdict()}


def list_keys(given: Namespace) -> dict[str, Any]:
    """The keys that prove an account, by id and age: one's own, or any account's as an operator."""
    with catalog() as session:
        name = _own_or_any(session, given.name, step="list keys")
        rows = [key.model_dump(mode="json", include=KEY_FIELDS) for key in keys.list_keys(session, account=name)]
        return {"keys": rows}


def rotate(given: Namespace) -> dict[str, Any]:
    """A new API key in place of the others, which may live on for some hours. It is in the answer and nowhere else."""
    with catalog(write=True) as session:
        name = _own_or_any(session, given.name, step="rotate keys")
        by = Actor(load_settings().account)
        return {"name": name, "api_key": keys.rotate_key(session, name=name, grace_hours=given.grace_hours, by=by)}


def revoke(given: Namespace) -> dict[str, Any]:
    """End an account's keys, or one of them, at once."""
    with catalog(write=True) as session:
        name = _own_or_any(session, given.name, step="revoke keys")
        revoked = keys.revoke_keys(session, name=name, key_id=given.key, by=Actor(load_settings().account))
        return {"name": name, "revoked": revoked}


def list_all(_: Namespace) -> dict[str, Any]:
    """Every account with its limits."""
    with catalog() as session:
        _operator(session, step="list accounts")
        return {"accounts": [_shown(account) for account in accounts.list_accounts(session)]}


def flavors(_: Namespace) -> dict[str, Any]:
    """The sizes of guests."""
    with catalog() as session:
        return {"flavors": [flavor.model_dump(mode="json") for flavor in list_flavors(session)]}


def audit(given: Namespace) -> dict[str, Any]:
    """The newest audit rows of what the account owns or owned."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        rows = list_audit(session, account=account, subject_id=given.subject)
        return {"audit": [row.model_dump(mode="json") for row in rows]}


def _operator(session: Any, *, step: str) -> str:
    name = require_account(session, account=load_settings().account)
    return accounts.require_operator(session, name=name, step=step).name


def _own_or_any(session: Any, wanted: str | None, *, step: str) -> str:
    """The account that is meant: the asking one by default; another one only where an operator asks."""
    name = require_account(session, account=load_settings().account)
    if wanted in (None, name):
        return name
    accounts.require_operator(session, name=name, step=step)
    return accounts.get_account(session, name=str(wanted)).name


def _shown(account: Account) -> dict[str, Any]:
    return account.model_dump(mode="json")
