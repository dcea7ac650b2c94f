"""What accounts see and launch is what the rules say, whatever they do to each other; on both databases."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from catalog_rows import Catalog, race
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from market_checks import pages
from market_machine import LICENCES, MarketMachine
from sqlalchemy import Engine
from sqlmodel import Session

from models.accounts import Limits
from models.exceptions import FieldInvalid, NotVisible, QuotaReached
from models.images import ImageFilter, NewImage, create_image, list_images
from models.listings import list_listings, subscribe
from models.market_tables import Member, Version
from models.sharing import accept_share, list_offers, share_image
from models.tables import Image, utc_now
from models.trail import Actor
from models.versions import NewVersion, Verdict, begin_scan, decide, end_scan, submit_version
from models.vocabulary import Decision, ImageType, MemberState, VersionState, WithdrawnFor

ADMIN, ALICE, BOB = Actor("admin"), Actor("alice"), Actor("bob")
HOUR = timedelta(hours=1)
BOUNDED = settings(
    max_examples=6,
    stateful_step_count=14,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck),
)
"""A failure repeats in CI; elsewhere the next run looks further."""


def test_market_is_what_the_rules_say(engine: Engine) -> None:
    run_state_machine_as_test(partial(MarketMachine, engine), settings=BOUNDED)  # type: ignore[arg-type]  # it only calls it


def test_market_goes_through_a_long_story(engine: Engine) -> None:
    """What chance seldom does: licences that change, captures of both kinds, withdrawals one after the other, revocations."""
    market, (licence, another) = MarketMachine(engine), LICENCES
    market.open_market(licence, launches=True)
    story: list[tuple[Callable[..., None], tuple[object, ...]]] = [
        (market.capture, (0,)),  # bob's, of the listed image: bound by its licence
        (market.share, (0, None, "carol", True)),
        (market.publish, (0, None, "Delta", licence)),
        (market.capture, (1,)),  # bob's, of the shared image: free
        (market.withdraw, (0, None, WithdrawnFor.NEW)),
        (market.bring_image, ("pat", "system", 12)),
        (market.publish, (0, None, "Gamma tool", licence)),
        (market.subscribe, (0, "carol", None)),  # too late for the version before
        (market.bring_image, ("pat", "system", 12)),
        (market.publish, (0, None, "Gamma tool", another)),  # nobody agreed to that
        (market.bring_image, ("pat", "system", 12)),
        (market.submit, (0, None, "Delta", licence, None)),
        (market.delete, (0, None)),
        (market.withdraw, (0, None, WithdrawnFor.NEW)),
        (market.delete, (0, None)),
        (market.delete, (1, None)),
        (market.set_active, (1, None, False)),
        (market.revoke, (6, None, True)),  # alice's own image, and not what bob made of it
        (market.revoke, (6, "olga", True)),
        (market.withdraw, (3, None, WithdrawnFor.ALL)),
        (market.launch, (4, "bob")),
    ]
    for step, arguments in story:
        step(*arguments)
        market.catalog_is_as_believed()
    market.teardown()


def submitted(session: Session, image: Image, name: str, *, title: str = "Web") -> Version:
    said: dict[str, Any] = {
        "summary": "A thing",
        "support_contact": "help@example.com",
        "licence": next(iter(LICENCES.values())),
    }
    new = NewVersion(image_id=image.id, title=title, name=name, categories=["web-server"], **said)
    return submit_version(session, new=new, by=ALICE)


def listed(session: Session, image: Image, name: str, *, title: str = "Web") -> Version:
    version = submitted(session, image, name, title=title)
    begin_scan(session, version=version, by=ALICE)
    end_scan(session, version=version, verdict=Verdict(scan_id="scan", passed=True, review_until=utc_now() + HOUR), by=ALICE)
    return decide(session, version_id=version.id, decision=Decision.APPROVE, note="", by=ADMIN)


def test_share_that_ended_is_offered_anew(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        (member,) = share_image(session, image_id=image.id, accounts=["bob"], by=ALICE)
        accept_share(session, image_id=image.id, by=BOB)
        member.expires_at = utc_now() - HOUR
        session.flush()
        share_image(session, image_id=image.id, accounts=["bob"], by=ALICE)
        assert catalog.count(session, Member) == 1
        assert [offer.member.state for offer in list_offers(session, account="bob").rows] == [MemberState.PENDING]
        assert list_images(session, account="bob").rows == []


@pytest.mark.parametrize("decision", Decision)
@pytest.mark.parametrize("scans", [False, True])
def test_reviewer_decides_on_nothing_that_is_not_scanned(catalog: Catalog, decision: Decision, scans: bool) -> None:
    with catalog.write() as session:
        version = submitted(session, catalog.active(session), "1")
        if scans:
            begin_scan(session, version=version, by=ALICE)
        with pytest.raises(NotVisible):
            decide(session, version_id=version.id, decision=decision, note="", by=ADMIN)
        assert version.state is (VersionState.SCANNING if scans else VersionState.DRAFT)


def test_category_is_found_by_its_words_and_by_nothing_else(catalog: Catalog) -> None:
    with catalog.write() as session:
        listed(session, catalog.active(session), "1")
        found = {word: len(list_listings(session, account="bob", search=word).rows) for word in ("server", "web-s", "cat")}
    assert found == {"server": 1, "web-s": 1, "cat": 0}


def test_image_of_several_versions_is_in_one_page_once(catalog: Catalog) -> None:
    with catalog.write() as session:
        images = [catalog.active(session, f"web-{number}") for number in range(3)]
        versions = [listed(session, image, f"{number}.{image.name}") for image in images for number in range(3)]
        subscribe(session, listing_id=versions[0].listing_id, licence_digest=versions[0].licence_digest, by=BOB)
        market = ImageFilter(type=ImageType.MARKETPLACE)
        rows = pages(lambda after: list_images(session, account="bob", chosen=market, after=after, limit=1))
    assert [row.id for row in rows] == [image.id for image in reversed(images)]


@pytest.mark.parametrize("limits", [Limits(max_creations=10), Limits(max_images=10, max_creations=50), Limits(max_bytes=10)])
def test_fifty_creations_at_once_against_a_limit_of_ten_make_ten(catalog: Catalog, limits: Limits) -> None:
    with catalog.write() as session:
        catalog.account(session, "carol", limits=limits)

    def create() -> None:
        with catalog.write() as session:
            create_image(session, new=NewImage(name="web", size=1), by=Actor("carol"))

    refusals = race([create] * 50)
    assert refusals.count(None) == 10
    assert sum(isinstance(refusal, QuotaReached) for refusal in refusals) == 40


@pytest.mark.parametrize(
    "after",
    [
        "2026-01-01T00:00:00+00:00/a\0b",
        "2026-01-01T00:00:00+00:00/\udcff",
        "0001-01-01T00:00:00+14:00/a",
        "9999-12-31T23:59:59-14:00/a",
    ],
)
def test_place_that_no_page_ended_at_is_refused(catalog: Catalog, after: str) -> None:
    asks: list[Callable[[Session], object]] = [
        lambda session: list_images(session, account="bob", after=after),
        lambda session: list_listings(session, account="bob", after=after),
        lambda session: list_offers(session, account="bob", after=after),
    ]
    with catalog.read() as session:
        for ask in asks:
            with pytest.raises(FieldInvalid):
                ask(session)


def test_category_that_is_none_is_refused(catalog: Catalog) -> None:
    with catalog.read() as session, pytest.raises(FieldInvalid):
        list_listings(session, account="bob", category="web\0")
