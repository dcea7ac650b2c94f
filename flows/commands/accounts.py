"""`ims account`, `ims flavor`, `ims audit`: catalog reads, and the making of accounts, which an operator does."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from models import accounts
from models.flavors import list_flavors
from models.tables import Account
from models.trail import Actor, list_audit
from tasks.engine.settings import load_settings
from tasks.resources import catalog, require_account


def create(given: Namespace) -> dict[str, Any]:
    """Make an account. Its API key is in the answer and nowhere else."""
    with catalog(write=True) as session:
        operator = _operator(session, step="create accounts")
        made = accounts.create_account(session, name=given.name, by=Actor(operator))
        return {"name": made.account.name, "api_key": made.api_key}


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


def _shown(account: Account) -> dict[str, Any]:
    return account.model_dump(mode="json", exclude={"key_salt", "key_hash"})
