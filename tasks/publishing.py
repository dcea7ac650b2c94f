"""Steps that bring a version to the marketplace and take it back. The gate is `tasks.gate`, the review `tasks.reviewing`."""

from __future__ import annotations

import base64
import binascii
from datetime import timedelta
from typing import Any

from prefect import task
from pydantic import BaseModel

from models.listings import find_listing
from models.listings import subscribe as subscribe_to
from models.market_tables import Listing, Version
from models.operations import bind_subject, heartbeat
from models.tables import utc_now
from models.versions import NewVersion, Verdict, begin_scan, end_scan, own_version, submit_version, withdraw_version
from models.vocabulary import VersionState, WithdrawnFor
from tasks.engine.errors import RequestRefused
from tasks.events import tell
from tasks.gate_report import ScanView
from tasks.markdown import cell
from tasks.market_views import MarketView, SubscriptionView, listing_markdown, market_view
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, require_account
from tasks.sagas import Saga


class Product(BaseModel):
    """What a publisher says of a version."""

    title: str
    version: str
    summary: str
    categories: list[str]
    support_contact: str
    licence: str
    description: str = ""
    logo_png: str = ""


@task(**ONCE, task_run_name="submit {product.title} {product.version}")
def submit(saga: Saga, image_id: str, product: Product) -> str:
    """Make the version's draft, or take up the one of an earlier attempt. Returns its id."""
    with catalog(write=True) as session:
        version = session.get(Version, saga.subject) if saga.subject else None
        if version is None:
            version = submit_version(session, new=_new_version(image_id, product), by=saga.actor)
            bind_subject(session, lease=saga.held, subject_id=version.id)
        begin_scan(session, version=version, by=saga.actor)
        saga.about("version", version.id)
    tell_version("submitted", version, product.title, by=saga.account)
    return version.id


@task(**RETRIED, task_run_name="close scan")
def close_scan(saga: Saga, version_id: str, scan: ScanView, days: int) -> MarketView:
    """In review for so many days where the gate was passed, else rejected with its findings."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        version = own_version(session, account=saga.account, version_id=version_id)
        if version.state is VersionState.SCANNING:
            verdict = Verdict(scan_id=scan.id, passed=scan.passed, review_until=utc_now() + timedelta(days=days))
            end_scan(session, version=version, verdict=verdict, by=saga.actor)
        view = market_view(session, version)
    if not scan.passed:
        tell_version("rejected", version, view.listing.title, by="gate")
    saga.result = view.model_dump(mode="json")
    return view


@task(**ONCE, task_run_name="report")
def report_version(saga: Saga, version_id: str) -> MarketView:
    """Publish where the version stands: what is said of it, what the gate found, where its reviewers are asked."""
    with catalog() as session:
        version = own_version(session, account=saga.account, version_id=version_id)
        listing = session.get_one(Listing, version.listing_id)
        view = market_view(session, version)
    where = f"\n\n[The review]({view.review_url})" if view.review_url else ""
    findings = len([each for each in view.findings if each.severity == "finding"])
    state = f"It is **{version.state}**" + (f", with {findings} findings; see the gate's report." if findings else ".")
    text = f"{listing_markdown(listing, version)}\n\n## State\n\n{state}{where}"
    publish(key=f"version-{version_id}", text=text, title=f"{cell(listing.title)} {version.name}")
    saga.result = view.model_dump(mode="json")
    return view


@task(**RETRIED, task_run_name="subscribe")
def subscribe(saga: Saga, listing_id: str, licence_digest: str) -> SubscriptionView:
    """Accept the licence of what the listing offers now."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        made = subscribe_to(session, listing_id=listing_id, licence_digest=licence_digest, by=saga.actor)
        listing = session.get_one(Listing, listing_id)
    view = SubscriptionView.model_validate(made)
    tell(
        "listing.subscribed", kind="listing", subject=listing_id, name=listing.title, account=saga.account, owner=listing.owner
    )
    saga.result = view.model_dump(mode="json")
    return view


@task(**RETRIED, task_run_name="withdraw for {scope.value}")
def withdraw(saga: Saga, version_id: str, scope: WithdrawnFor) -> MarketView:
    """Close the version to new subscribers or to all; ECSs that run live on."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        version = withdraw_version(session, version_id=version_id, scope=scope, by=saga.actor)
        view = market_view(session, version)
    tell_version("withdrawn", version, view.listing.title, by=saga.account, withdrawn_for=version.withdrawn_for)
    publish(key=f"version-{version_id}", text=withdrawn_markdown(view), title=f"{cell(view.listing.title)} withdrawn")
    saga.result = view.model_dump(mode="json")
    return view


def withdrawn_markdown(view: MarketView) -> str:
    """The report of a withdrawal."""
    whom = {"new": "accounts that had not subscribed before"}.get(
        view.version.withdrawn_for or "", "all accounts but its owner's"
    )
    return (
        f"# {cell(view.listing.title)} {view.version.version}\n\n"
        f"Closed to {whom}. What was launched from it lives on.\n\nIts image is `{view.version.image_id}`."
    )


def listing_id_of(account: str, wanted: str) -> str:
    """The id of a listing that the account sees, by id or title, once this process has proved the account."""
    with catalog() as session:
        return find_listing(session, account=require_account(session, account=account), wanted=wanted)


def tell_version(what: str, version: Version, title: str, *, by: str, **more: object) -> None:
    """Emit what became of a version."""
    facts: dict[str, Any] = {"listing_id": version.listing_id, "image_id": version.image_id, "version": version.name}
    facts |= {"owner": version.owner, "by": by, **more}
    tell(f"version.{what}", kind="version", subject=version.id, name=title, **facts)


def _new_version(image_id: str, product: Product) -> NewVersion:
    values = product.model_dump(exclude={"logo_png", "version"})
    return NewVersion(image_id=image_id, name=product.version, logo_png=_decoded(product.logo_png), **values)


def _decoded(logo: str) -> bytes | None:
    if not logo:
        return None
    try:
        return base64.b64decode(logo, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestRefused("logo", f"the logo is no base64: {error}", remedy="Encode the PNG file with base64.") from error
