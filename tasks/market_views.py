"""Listings, versions and subscriptions as people and programs see them. Read-only, no Prefect: commands that read use them."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from models.listings import Offered
from models.market_tables import Listing, Scan, Version
from tasks.engine.settings import load_settings
from tasks.gate_report import FindingView
from tasks.markdown import cell, code, fenced, table


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ListingView(_View):
    """A product of the marketplace."""

    id: str
    title: str
    owner: str
    listed_at: datetime | None


class VersionView(_View):
    """One version of a product; `version` is its name. Its licence's text is read by `ims market show`."""

    id: str
    listing_id: str
    owner: str
    number: int
    version: str
    state: str
    image_id: str
    digest: str
    summary: str
    categories: list[str]
    support_contact: str
    licence_digest: str
    scan_id: str | None
    review_until: datetime | None
    decision: str | None
    reviewer: str | None
    note: str
    decided_at: datetime | None
    withdrawn_for: str | None
    withdrawn_at: datetime | None
    created_at: datetime


class MarketView(_View):
    """A version with its listing, what the gate found, and where its reviewers are asked."""

    listing: ListingView
    version: VersionView
    findings: list[FindingView] = []
    review_url: str | None = None


class SubscriptionView(_View):
    """An account's agreement to one text of a listing's licence."""

    account: str
    listing_id: str
    licence_digest: str
    version_id: str
    accepted_at: datetime


def version_view(version: Version) -> VersionView:
    values = {name: getattr(version, name) for name in VersionView.model_fields if name != "version"}
    return VersionView.model_validate(values | {"version": version.name})


def scan_of(session: Session, version: Version) -> Scan | None:
    """What the gate said of a version; None where it has not looked yet."""
    return session.get(Scan, version.scan_id) if version.scan_id else None


def market_view(session: Session, version: Version) -> MarketView:
    """The version as its publisher and its reviewers see it."""
    scan = scan_of(session, version)
    return MarketView(
        listing=ListingView.model_validate(session.get_one(Listing, version.listing_id)),
        version=version_view(version),
        findings=[FindingView.model_validate(each) for each in (scan.findings if scan else ())],
        review_url=load_settings().run_url(version.review_run_id) if version.review_run_id else None,
    )


def offered_row(offered: Offered) -> dict[str, Any]:
    """One row of the marketplace's list."""
    version, image = offered.version, offered.image
    return {
        **ListingView.model_validate(offered.listing).model_dump(mode="json"),
        "version": version.name,
        "version_id": version.id,
        "image_id": version.image_id,
        "summary": version.summary,
        "categories": version.categories,
        "system": " ".join(filter(None, (image.os_distro, image.os_version, image.architecture))),
        "min_disk_gib": image.min_disk_gib,
        "licence_digest": version.licence_digest,
        "subscribed": offered.subscribed,
    }


def offered_whole(offered: Offered) -> dict[str, Any]:
    """All that a subscriber may want to read first."""
    version = offered.version
    return offered_row(offered) | {
        "description": version.description,
        "support_contact": version.support_contact,
        "licence": version.licence,
        "logo_png": base64.b64encode(version.logo_png).decode() if version.logo_png else None,
        "digest": version.digest,
    }


def listing_markdown(listing: Listing, version: Version) -> str:
    """What a publisher says of a version, as plain text in a page."""
    rows = [
        ("Publisher", cell(version.owner)),
        ("Version", cell(version.name)),
        ("Summary", code(version.summary)),
        ("Categories", ", ".join(version.categories)),
        ("Support", code(version.support_contact)),
        ("Image", f"`{version.image_id}`"),
        ("Digest", f"`{version.digest}`"),
        ("Licence", f"`{version.licence_digest}`"),
    ]
    parts = [f"# {cell(listing.title)} {cell(version.name)}", table(("", ""), rows)]
    if version.logo_png:
        parts.append(f"![logo](data:image/png;base64,{base64.b64encode(version.logo_png).decode()})")
    if version.description:
        parts.append(f"## Description\n\n{fenced(version.description)}")
    return "\n\n".join([*parts, f"## Licence\n\n{fenced(version.licence)}"])
