"""The publish gate's records: who makes an image public and with which scan, and who reads scans, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from catalog_rows import Catalog, passage
from product_rows import ADMIN, ALICE, Products
from sqlmodel import col, select

from models.exceptions import ImageRefused, NotVisible, RoleNeeded, TransitionRefused
from models.gate import get_scan, keep_content, known_content, list_scans, record_passage, set_public, unset_public
from models.image_changes import set_active
from models.images import get_image
from models.market_tables import Scan
from models.tables import Audit, Image, new_id
from models.trail import Actor
from models.vocabulary import Purpose


@pytest.fixture
def products(catalog: Catalog) -> Iterator[Products]:
    with catalog.write() as session:
        yield Products(catalog, session)


def scan_of(products: Products, image: Image, *, passed: bool = True) -> Scan:
    given = passage(Purpose.PUBLIC, passed=passed)
    return record_passage(products.session, image=image, passage=given, by=Actor(image.owner))


def make_public(products: Products, image: Image, scan: Scan, *, by: Actor = ADMIN) -> Image:
    return set_public(products.session, image_id=image.id, scan_id=scan.id, by=by)


def reads(products: Products, scan: Scan) -> list[str]:
    """Accounts that read the scan."""
    return [account for account in ("admin", "alice", "bob") if _reads(products, account, scan)]


def _reads(products: Products, account: str, scan: Scan) -> bool:
    try:
        return get_scan(products.session, account=account, scan_id=scan.id).id == scan.id
    except NotVisible:
        return False


def test_scanned_image_of_an_operator_becomes_everybodys_and_is_taken_back(products: Products) -> None:
    image = products.catalog.active(products.session, owner="admin")
    make_public(products, image, scan_of(products, image))
    assert get_image(products.session, account="bob", image_id=image.id).public
    make_public(products, image, scan_of(products, image))
    unset_public(products.session, image_id=image.id, by=ADMIN)
    with pytest.raises(NotVisible):
        get_image(products.session, account="bob", image_id=image.id)
    steps = select(Audit.old, Audit.new).where(Audit.subject_id == image.id, col(Audit.new).startswith("public="))
    assert products.session.exec(steps.order_by(col(Audit.id))).all() == [
        ("public=False", "public=True"),
        ("public=True", "public=False"),
    ]


@pytest.mark.parametrize("flag", [set_public, unset_public])
def test_flag_is_an_operators(products: Products, flag: Callable[..., Image]) -> None:
    image = products.catalog.active(products.session)
    given = {"scan_id": scan_of(products, image).id} if flag is set_public else {}
    with pytest.raises(RoleNeeded):
        flag(products.session, image_id=image.id, by=ALICE, **given)


def test_operator_flags_its_own_images_alone(products: Products) -> None:
    image = products.catalog.active(products.session)
    with pytest.raises(NotVisible):
        make_public(products, image, scan_of(products, image))


def test_scan_must_have_passed_and_be_of_this_image_and_content(products: Products) -> None:
    image, other = (products.catalog.active(products.session, owner="admin") for _ in range(2))
    stale = scan_of(products, image)
    stale.digest = "f" * 64
    unknown = Scan(id=new_id(), image_id=image.id, digest="", owner="admin", purpose=Purpose.PUBLIC, passed=True)
    products.session.flush()
    for scan in (scan_of(products, image, passed=False), scan_of(products, other), stale, unknown):
        with pytest.raises(ImageRefused) as caught:
            make_public(products, image, scan)
        assert caught.value.reason == "scan"
    assert not image.public


def test_image_that_is_not_active_does_not_become_public(products: Products) -> None:
    image = products.catalog.active(products.session, owner="admin")
    scan = scan_of(products, image)
    set_active(products.session, image_id=image.id, active=False, by=ADMIN)
    with pytest.raises(TransitionRefused):
        make_public(products, image, scan)


def test_licensed_image_does_not_become_public(products: Products) -> None:
    image = products.catalog.active(products.session, owner="admin")
    image.licences = [new_id()]
    with pytest.raises(ImageRefused) as caught:
        make_public(products, image, scan_of(products, image))
    assert caught.value.reason == "licensed"


def test_scan_is_read_by_the_images_owner(products: Products) -> None:
    image = products.catalog.active(products.session)
    first, second = scan_of(products, image), scan_of(products, image, passed=False)
    assert reads(products, first) == ["alice"]
    listed = {who: [row.id for row in list_scans(products.session, account=who, image_id=image.id)] for who in ("alice", "bob")}
    assert listed == {"alice": [second.id, first.id], "bob": []}


def test_scan_of_a_version_is_read_by_reviewers_then_by_all_then_by_its_owner(products: Products) -> None:
    version = products.in_review()
    scan = products.session.get_one(Scan, version.scan_id)
    assert reads(products, scan) == ["admin", "alice"]
    products.decide(version)
    assert reads(products, scan) == ["admin", "alice", "bob"]
    products.withdraw(version)
    assert reads(products, scan) == ["alice"]


def test_other_scans_of_a_listed_image_stay_the_owners(products: Products) -> None:
    version = products.listed()
    assert reads(products, scan_of(products, products.image(version))) == ["alice"]


def test_content_is_kept_by_digest_and_rules(products: Products) -> None:
    for rules, content in (("1", {"users": 1}), ("2", {"users": 2}), ("1", {"users": 3})):
        keep_content(products.session, digest="a" * 64, rules=rules, content=content)
    known = [known_content(products.session, digest="a" * 64, rules=rules) for rules in ("1", "2", "3")]
    assert known == [{"users": 3}, {"users": 2}, None]


def test_verdict_is_on_the_images_trail(products: Products) -> None:
    image = products.catalog.active(products.session)
    scan_of(products, image, passed=False)
    row = products.session.exec(select(Audit).order_by(col(Audit.id).desc())).first()
    assert row is not None
    assert (row.who, row.subject_id, row.new, row.detail["purpose"]) == ("alice", image.id, "scan failed", "public")
