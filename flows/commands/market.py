"""`ims market`: the marketplace is read from the catalog, every step on it is a flow."""

from __future__ import annotations

import base64
from argparse import Namespace
from pathlib import Path
from typing import Any

from models.listings import find_listing, get_offered, list_listings, list_subscriptions, list_versions, own_listings
from models.market_tables import Listing
from models.versions import get_version, list_reviews
from tasks.engine.errors import RequestRefused
from tasks.engine.settings import load_settings
from tasks.market_views import (
    MarketView,
    SubscriptionView,
    market_view,
    offered_row,
    offered_whole,
    version_view,
)
from tasks.resources import catalog, require_account


def publish(given: Namespace) -> dict[str, Any]:
    """Run the publish flow."""
    options = {
        "description": _text(given.description_file, "description") if given.description_file else given.description,
        "logo_png": base64.b64encode(_bytes(given.logo, "logo")).decode() if given.logo else "",
        "review_days": given.review_days,
        "idempotency_key": given.idempotency_key,
    }
    parameters = {
        "image": given.id,
        "title": given.title,
        "version": given.version,
        "summary": given.summary,
        "categories": given.categories,
        "support_contact": given.support,
        "licence": _text(given.licence, "licence"),
        "account": load_settings().account,
        "options": options,
    }
    return _run("publish_image", parameters, detach=given.detach)


def list_all(given: Namespace) -> dict[str, Any]:
    """A page of what is listed."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        page = list_listings(
            session, account=account, search=given.search, category=given.category, after=given.after, limit=given.limit
        )
        return {"listings": [offered_row(offered) for offered in page.rows], "after": page.after}


def show(given: Namespace) -> dict[str, Any]:
    """A listing with the licence to accept and its versions."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        listing_id = find_listing(session, account=account, wanted=given.id)
        versions = [
            version_view(version).model_dump(mode="json")
            for version in list_versions(session, account=account, listing_id=listing_id)
        ]
        listing = session.get_one(Listing, listing_id)
        offered = get_offered(session, account=account, listing_id=listing_id) if listing.version_id else None
        shown = offered_whole(offered) if offered else {"id": listing.id, "title": listing.title, "owner": listing.owner}
        return shown | {"versions": versions}


def mine(_: Namespace) -> dict[str, Any]:
    """All versions that the account submitted."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        return {"versions": [version_view(row).model_dump(mode="json") for row in own_listings(session, account=account)]}


def subscriptions(_: Namespace) -> dict[str, Any]:
    """What the account subscribed to."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        rows = [
            SubscriptionView.model_validate(row).model_dump(mode="json") | {"title": listing.title}
            for row, listing in list_subscriptions(session, account=account)
        ]
        return {"subscriptions": rows}


def subscribe(given: Namespace) -> dict[str, Any]:
    """Run the subscribe flow, with the licence that is accepted: the one shown now where no digest is given."""
    licence = given.licence or _licence_shown(given)
    return _run("subscribe_listing", {"listing": given.id, "licence": licence, "account": load_settings().account})


def reviews(_: Namespace) -> dict[str, Any]:
    """What waits for a reviewer's answer."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        rows = [market_view(session, version) for version in list_reviews(session, account=account)]
        return {"reviews": [_review_row(view) for view in rows]}


def review(given: Namespace) -> dict[str, Any]:
    """Run the answer flow."""
    parameters = {
        "version": given.id,
        "decision": given.decision,
        "note": given.note,
        "account": load_settings().account,
    }
    return _run("answer_review", parameters)


def version(given: Namespace) -> dict[str, Any]:
    """A version with what the gate found, to its publisher and its reviewers; to others once it is listed."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        found = get_version(session, account=account, version_id=given.id)
        return market_view(session, found).model_dump(mode="json")


def withdraw(given: Namespace) -> dict[str, Any]:
    """Run the withdraw flow."""
    parameters = {"version": given.id, "scope": given.scope, "account": load_settings().account}
    return _run("withdraw_version", parameters)


def rescan(given: Namespace) -> dict[str, Any]:
    """Run the rescan flow."""
    return _run("rescan_listed", {"account": load_settings().account, "policy": given.policy}, detach=given.detach)


def _run(verb: str, parameters: dict[str, Any], *, detach: bool = False) -> dict[str, Any]:
    from flows.calling import run_flow

    return run_flow(verb, parameters, detach=detach)


def _licence_shown(given: Namespace) -> str:
    if not given.accept:
        raise RequestRefused(
            "licence", "a subscription accepts the licence", remedy="Read it with `ims market show`; then --accept it."
        )
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        listing_id = find_listing(session, account=account, wanted=given.id)
        return get_offered(session, account=account, listing_id=listing_id).version.licence_digest


def _review_row(view: MarketView) -> dict[str, Any]:
    return {
        "id": view.version.id,
        "title": view.listing.title,
        "version": view.version.version,
        "owner": view.version.owner,
        "review_until": view.version.review_until,
        "review_url": view.review_url,
        "warnings": len(view.findings),
    }


def _text(file: str, field: str) -> str:
    try:
        return _bytes(file, field).decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(field, f"{file} is no UTF-8 text", remedy="Give a text file.") from error


def _bytes(file: str, field: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RequestRefused(field, f"{file} cannot be read: {error}", remedy="Give a file that you may read.") from error
