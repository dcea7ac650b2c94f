"""Versions of listings: submission, scan, review, withdrawal, and everything refused on the way, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from catalog_rows import Catalog
from product_rows import ADMIN, ALICE, BOB, Products
from sqlmodel import col, select

from models.accounts import AccountChange, change_account
from models.exceptions import (
    CatalogError,
    DeletionRefused,
    FieldInvalid,
    ImageRefused,
    NameInvalid,
    NameTaken,
    NotVisible,
    RoleNeeded,
    TransitionRefused,
)
from models.facts import DiskFacts
from models.image_changes import record_disk, set_active
from models.images import delete_image
from models.listings import get_offered, list_listings, list_versions
from models.market_tables import Listing, Version
from models.tables import Audit, new_id, utc_now
from models.versions import (
    begin_scan,
    decide,
    expire_review,
    get_version,
    list_reviews,
    offered_versions,
    overdue_reviews,
    own_version,
    versions_of_image,
)
from models.vocabulary import Decision, DiskKind, VersionState, WithdrawnFor

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0dIHDR" + (64).to_bytes(4, "big") * 2 + b"\x08\x06\x00\x00\x00"


@pytest.fixture
def products(catalog: Catalog) -> Iterator[Products]:
    with catalog.write() as session:
        yield Products(catalog, session)


def shown(products: Products) -> list[str]:
    """Names of the versions that the marketplace shows."""
    return [offered.version.name for offered in list_listings(products.session, account="bob").rows]


def trail(products: Products, version: Version) -> list[tuple[str, str | None, str | None]]:
    query = select(Audit).where(Audit.subject_id == version.id).order_by(col(Audit.id))
    return [(row.who, row.old, row.new) for row in products.session.exec(query)]


def overdue(products: Products, version: Version) -> Version:
    version.review_until = utc_now() - timedelta(minutes=1)
    products.session.add(version)
    products.session.flush()
    return version


def test_submission_is_a_draft_of_the_images_content(products: Products) -> None:
    version = products.submit(logo_png=PNG, categories=["web", "ci", "web"], description="Long.\nLonger.")
    image = products.image(version)
    assert (version.state, version.number, version.owner) == (VersionState.DRAFT, 1, "alice")
    assert (version.digest, version.image_created_at) == (image.digest, image.created_at)
    assert (version.categories, version.logo_png, len(version.licence_digest)) == (["ci", "web"], PNG, 64)
    assert products.session.get_one(Listing, version.listing_id).title == "Product"


def test_approved_version_is_listed_and_every_step_is_on_its_trail(products: Products) -> None:
    version = products.in_review()
    assert (version.state, shown(products)) == (VersionState.IN_REVIEW, [])
    products.decide(version, note="Fine.")
    assert (version.state, version.reviewer, version.note, version.decision) == ("listed", "admin", "Fine.", "approve")
    assert shown(products) == ["1.0"]
    steps = [("alice", None, "draft"), ("alice", "draft", "scanning"), ("alice", "scanning", "in_review")]
    assert trail(products, version) == [*steps, ("admin", "in_review", "listed")]


def test_scan_that_failed_rejects(products: Products) -> None:
    version = products.scanned(products.submit(), passed=False)
    assert (version.state, version.review_until, version.scan_id is None) == (VersionState.REJECTED, None, False)
    with pytest.raises(NotVisible):
        products.decide(version)


def test_scan_begun_again_stays_begun(products: Products) -> None:
    version = products.submit()
    for _ in range(2):
        begin_scan(products.session, version=version, by=ALICE)
    assert version.state is VersionState.SCANNING


def test_rejected_version_stays_and_the_next_has_the_next_number(products: Products) -> None:
    rejected = products.decide(products.in_review(), Decision.REJECT, note="No.")
    assert (rejected.state, rejected.note, shown(products)) == (VersionState.REJECTED, "No.", [])
    again = products.submit("1.0.1")
    assert (again.number, again.listing_id) == (2, rejected.listing_id)
    assert products.submit(title="Other").number == 1


def test_title_is_the_publishers_own(products: Products) -> None:
    version = products.submit()
    other = products.submit(by=BOB)
    assert (other.listing_id == version.listing_id, other.number) == (False, 1)


def test_version_name_of_the_listing_is_taken_for_good(products: Products) -> None:
    products.decide(products.in_review(), Decision.REJECT)
    with pytest.raises(NameTaken):
        products.submit()
    assert products.submit("1.1").number == 2


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"title": " Product"}, NameInvalid),
        ({"title": "<b>"}, NameInvalid),
        ({"name": "1 0"}, NameInvalid),
        ({"name": ""}, NameInvalid),
        ({"summary": " "}, FieldInvalid),
        ({"summary": "a\nb"}, FieldInvalid),
        ({"summary": "a" * 256}, FieldInvalid),
        ({"support_contact": ""}, FieldInvalid),
        ({"licence": " \n"}, FieldInvalid),
        ({"licence": "a\0b"}, FieldInvalid),
        ({"licence": "a" * 65_537}, FieldInvalid),
        ({"description": "\x1b[31m"}, FieldInvalid),
        ({"categories": []}, FieldInvalid),
        ({"categories": ["a", "b", "c", "d", "e", "f"]}, FieldInvalid),
        ({"categories": ["Web"]}, FieldInvalid),
        ({"logo_png": b"GIF89a"}, FieldInvalid),
        ({"logo_png": PNG[:16]}, FieldInvalid),
        ({"logo_png": PNG + bytes(65_536)}, FieldInvalid),
        ({"logo_png": PNG[:16] + (513).to_bytes(4, "big") + PNG[20:]}, FieldInvalid),
    ],
)
def test_value_against_its_rule_is_refused(products: Products, said: dict[str, Any], error: type[CatalogError]) -> None:
    with pytest.raises(error):
        products.submit(**said)


def test_image_of_another_account_is_not_submitted(products: Products) -> None:
    for image in (products.catalog.active(products.session, owner="bob"), products.catalog.public(products.session)):
        with pytest.raises(NotVisible):
            products.submit(image=image)


def test_image_that_is_not_active_is_not_submitted(products: Products) -> None:
    image = products.catalog.active(products.session)
    set_active(products.session, image_id=image.id, active=False, by=ALICE)
    with pytest.raises(TransitionRefused):
        products.submit(image=image)


def test_licensed_image_is_not_submitted(products: Products) -> None:
    image = products.catalog.active(products.session)
    image.licences = [new_id()]
    products.session.flush()
    with pytest.raises(ImageRefused) as caught:
        products.submit(image=image)
    assert caught.value.reason == "licensed"


@pytest.mark.parametrize("indexes", [[0], [0, 1]])
def test_image_with_data_disks_is_not_submitted(products: Products, indexes: list[int]) -> None:
    image = products.catalog.active(products.session)
    for index in indexes:
        kind = DiskKind.DATA if index or len(indexes) == 1 else DiskKind.SYSTEM
        facts = DiskFacts(index=index, kind=kind, virtual_size=1, digest="b" * 64, data_bytes=1, stored_bytes=1, new_bytes=1)
        record_disk(products.session, image=image, facts=facts)
    with pytest.raises(ImageRefused) as caught:
        products.submit(image=image)
    assert caught.value.reason == "disks"


@pytest.mark.parametrize("account", [ALICE, BOB])
def test_decision_is_a_reviewers(products: Products, account: Any) -> None:
    version = products.in_review()
    with pytest.raises(RoleNeeded):
        products.decide(version, by=account)
    change_account(products.session, name="bob", change=AccountChange(reviewer=True), by=ADMIN)
    assert products.decide(version, by=BOB).reviewer == "bob"


def test_operator_is_no_reviewer_by_that_alone(products: Products) -> None:
    change_account(products.session, name="admin", change=AccountChange(reviewer=False), by=ADMIN)
    with pytest.raises(RoleNeeded):
        products.decide(products.in_review())


@pytest.mark.parametrize("second", list(Decision))
def test_second_answer_is_refused(products: Products, second: Decision) -> None:
    version = products.decide(products.in_review())
    with pytest.raises(TransitionRefused):
        products.decide(version, second)
    assert version.state is VersionState.LISTED


@pytest.mark.parametrize("decision", list(Decision))
def test_version_that_was_never_in_review_is_unknown_to_reviewers(products: Products, decision: Decision) -> None:
    version = products.submit()
    with pytest.raises(NotVisible):
        products.decide(version, decision)
    assert version.state is VersionState.DRAFT


def test_decision_on_no_version_or_with_no_text_is_refused(products: Products) -> None:
    version = products.in_review()
    with pytest.raises(FieldInvalid, match="note"):
        products.decide(version, note="\0")
    with pytest.raises(NotVisible):
        decide(products.session, version_id=new_id(), decision=Decision.APPROVE, note="", by=ADMIN)


def test_review_that_timed_out_takes_no_answer(products: Products) -> None:
    version = overdue(products, products.in_review())
    with pytest.raises(TransitionRefused, match="timed out"):
        products.decide(version)
    assert [row.id for row in overdue_reviews(products.session)] == [version.id]
    assert expire_review(products.session, version_id=version.id, by=ADMIN)
    assert (version.state, version.reviewer, version.decision) == (VersionState.REJECTED, None, Decision.REJECT)


def test_review_with_time_left_does_not_expire(products: Products) -> None:
    version = products.in_review()
    assert list(overdue_reviews(products.session)) == []
    assert not expire_review(products.session, version_id=version.id, by=ADMIN)
    assert not expire_review(products.session, version_id=products.listed("2.0").id, by=ADMIN)


def test_reviews_are_listed_to_reviewers_the_most_urgent_first(products: Products) -> None:
    late, soon = products.in_review("1", days=9), products.in_review("2", days=1)
    products.listed("3")
    assert [row.id for row in list_reviews(products.session, account="admin")] == [soon.id, late.id]
    with pytest.raises(RoleNeeded):
        list_reviews(products.session, account="alice")


def test_image_that_is_not_active_any_more_is_not_listed(products: Products) -> None:
    version = products.in_review()
    products.image(version).state = "deactivated"  # what no command does meanwhile
    products.session.flush()
    with pytest.raises(ImageRefused):
        products.decide(version)
    assert products.decide(version, Decision.REJECT).state is VersionState.REJECTED


@pytest.mark.parametrize("scope", list(WithdrawnFor))
@pytest.mark.parametrize("make", [Products.submit, Products.in_review])
def test_withdrawn_submission_ends_for_all(
    products: Products, make: Callable[[Products], Version], scope: WithdrawnFor
) -> None:
    version = products.withdraw(make(products), scope)
    assert (version.state, version.withdrawn_for) == (VersionState.WITHDRAWN, WithdrawnFor.ALL)
    with pytest.raises((NotVisible, TransitionRefused)):
        products.decide(version)


def test_withdrawal_for_new_subscribers_is_narrowed_and_never_widened(products: Products) -> None:
    version = products.withdraw(products.listed(), WithdrawnFor.NEW)
    assert (version.withdrawn_for, shown(products)) == (WithdrawnFor.NEW, [])
    products.withdraw(version, WithdrawnFor.ALL)
    for scope in WithdrawnFor:
        assert products.withdraw(version, scope).withdrawn_for is WithdrawnFor.ALL
    ends = [("alice", "listed", "withdrawn"), ("alice", "withdrawn_for=new", "withdrawn_for=all")]
    assert trail(products, version)[-2:] == ends


def test_rejected_version_is_not_withdrawn(products: Products) -> None:
    version = products.decide(products.in_review(), Decision.REJECT)
    with pytest.raises(TransitionRefused):
        products.withdraw(version)


def test_withdrawal_is_the_publishers_or_an_operators(products: Products) -> None:
    version = products.listed()
    with pytest.raises(NotVisible):
        products.withdraw(version, by=BOB)
    assert products.withdraw(version, by=ADMIN).state is VersionState.WITHDRAWN


def test_listing_shows_its_newest_version_and_falls_back_to_the_older(products: Products) -> None:
    first, second = products.listed("1.0"), products.listed("2.0")
    assert shown(products) == ["2.0"]
    products.withdraw(second, WithdrawnFor.NEW)
    assert shown(products) == ["1.0"]
    offered = get_offered(products.session, account="bob", listing_id=first.listing_id)
    assert offered.listing.listed_at == first.decided_at
    products.withdraw(first)
    assert shown(products) == []
    with pytest.raises(NotVisible):
        get_offered(products.session, account="bob", listing_id=first.listing_id)


def test_older_version_that_is_listed_later_is_not_what_is_shown(products: Products) -> None:
    older = products.in_review("1.0")
    products.listed("2.0")
    products.decide(older)
    assert (older.state, shown(products)) == (VersionState.LISTED, ["2.0"])


@pytest.mark.parametrize("make", [Products.submit, Products.in_review, Products.listed])
def test_image_that_a_version_needs_is_kept(products: Products, make: Callable[[Products], Version]) -> None:
    version = make(products)
    with pytest.raises(DeletionRefused, match="listed"):
        delete_image(products.session, image_id=version.image_id, by=ALICE)
    with pytest.raises(ImageRefused, match="withdraw"):
        set_active(products.session, image_id=version.image_id, active=False, by=ALICE)
    products.withdraw(version)
    delete_image(products.session, image_id=version.image_id, by=ALICE)


def test_image_is_kept_while_earlier_subscribers_may_launch_it(products: Products) -> None:
    version = products.withdraw(products.listed(), WithdrawnFor.NEW)
    assert [row.id for row in versions_of_image(products.session, image_id=version.image_id)] == [version.id]
    assert [version_id for version_id, _ in offered_versions(products.session)] == [version.id]
    with pytest.raises(DeletionRefused):
        delete_image(products.session, image_id=version.image_id, by=ALICE)
    products.withdraw(version, WithdrawnFor.ALL)
    assert [*versions_of_image(products.session, image_id=version.image_id), *offered_versions(products.session)] == []


def test_version_is_read_by_whom_its_state_allows(products: Products) -> None:
    version = products.in_review()
    readers = {"alice": True, "admin": True, "bob": False}
    assert {account: _reads(products, account, version) for account in readers} == readers
    products.decide(version)
    assert all(_reads(products, account, version) for account in readers)
    products.withdraw(version)
    assert {account: _reads(products, account, version) for account in readers} == readers | {"admin": False}


def test_versions_of_a_listing_are_all_told_to_its_owner(products: Products) -> None:
    products.decide(products.in_review("1"), Decision.REJECT)
    listing_id = products.listed("2").listing_id
    products.submit("3")
    for account, names in (("alice", ["3", "2", "1"]), ("bob", ["2"])):
        assert [row.name for row in list_versions(products.session, account=account, listing_id=listing_id)] == names


def test_own_version_is_the_publishers(products: Products) -> None:
    version = products.listed()
    assert own_version(products.session, account="alice", version_id=version.id).id == version.id
    with pytest.raises(NotVisible):
        own_version(products.session, account="bob", version_id=version.id)


def _reads(products: Products, account: str, version: Version) -> bool:
    try:
        get_version(products.session, account=account, version_id=version.id)
    except NotVisible:
        return False
    return True
