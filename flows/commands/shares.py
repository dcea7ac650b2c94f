"""`ims image share` and what follows from it: lists are read from the catalog, every step is a flow."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from models.sharing import list_members, list_offers
from models.vocabulary import MemberState
from tasks.engine.settings import load_settings
from tasks.finding import resolve_image
from tasks.resources import catalog, require_account


def share(given: Namespace) -> dict[str, Any]:
    """Run the share flow."""
    return _run("share_image", given, accounts=given.accounts, days=given.days)


def unshare(given: Namespace) -> dict[str, Any]:
    """Run the withdraw flow."""
    return _run("withdraw_share", given, accounts=given.accounts)


def accept(given: Namespace) -> dict[str, Any]:
    """Run the accept flow."""
    return _run("accept_share", given, digest=given.digest)


def reject(given: Namespace) -> dict[str, Any]:
    """Run the reject flow."""
    return _run("reject_share", given)


def leave(given: Namespace) -> dict[str, Any]:
    """Run the leave flow."""
    return _run("leave_share", given)


def members(given: Namespace) -> dict[str, Any]:
    """Who has an offer of the account's own image, and what they answered."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        image_id = resolve_image(session, account=account, wanted=given.id)
        rows = list_members(session, account=account, image_id=image_id)
        return {"image_id": image_id, "members": [row.model_dump(mode="json") for row in rows]}


def offers(given: Namespace) -> dict[str, Any]:
    """What others share with the account."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        state = MemberState(given.state)
        page = list_offers(session, account=account, state=state, after=given.after, limit=given.limit)
        rows = [offer.member.model_dump(mode="json") | {"name": offer.image.name} for offer in page.rows]
        return {"offers": rows, "after": page.after}


def _run(verb: str, given: Namespace, **more: Any) -> dict[str, Any]:
    from flows.calling import run_flow

    return run_flow(verb, {"image": given.id, "account": load_settings().account, **more})
