"""The marketplace as accounts see it: search, what a listing offers, subscriptions and what they launch, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from catalog_rows import Catalog
from product_rows import ADMIN, ALICE, BOB, Products
from sqlmodel import col, select

from models.exceptions import FieldInvalid, ImageRefused, NotVisible
from models.images import ImageFilter, image_type, list_images
from models.listings import (
    find_listing,
    get_offered,
    list_listings,
    list_subscriptions,
    listed_image,
    own_listings,
    subscribe,
)
from models.market_tables import Subscription, Version
from models.search import MAX_WORDS, words_of
from models.tables import Audit, new_id
from models.versions import licence_digest
from models.vocabulary import ImageType, WithdrawnFor


@pytest.fixture
def products(catalog: Catalog) -> Iterator[Products]:
    with catalog.write() as session:
        yield Products(catalog, session)


def found(products: Products, search: str = "", category: str | None = None) -> list[str]:
    """Titles, the newest first."""
    page = list_listings(products.session, account="bob", search=search, category=category)
    return [offered.listing.title for offered in page.rows]


def images(products: Products, account: str = "bob") -> list[str]:
    chosen = ImageFilter(type=ImageType.MARKETPLACE)
    return [image.id for image in list_images(products.session, account=account, chosen=chosen).rows]


def launches(products: Products, version: Version, account: str = "bob") -> bool:
    try:
        products.launch(version, account=account)
    except NotVisible:
        return False
    return True


@pytest.fixture
def shelf(products: Products) -> Products:
    """Three products, the web server last."""
    products.listed(title="Mail relay", summary="Sends what you write.", categories=["mail", "network"])
    products.listed(title="Postgres 16", summary="A database server.", categories=["database"])
    products.listed(title="nginx web server", summary="Serves pages, fast.", categories=["web", "network"])
    return products


@pytest.mark.parametrize(
    ("search", "titles"),
    [
        ("", ["nginx web server", "Postgres 16", "Mail relay"]),
        ("server", ["nginx web server", "Postgres 16"]),
        ("serv", ["nginx web server", "Postgres 16"]),
        ("SERVER fast", ["nginx web server"]),
        ("fast, server!", ["nginx web server"]),
        ("post 16", ["Postgres 16"]),
        ("erver", []),
        ("server mail", []),
        ("alice", ["nginx web server", "Postgres 16", "Mail relay"]),
        ("1.0", ["nginx web server", "Postgres 16", "Mail relay"]),
        ("netw", ["nginx web server", "Mail relay"]),
        ("category", []),
        ("%", None),
        ("_ner", []),
        ("' OR 1=1 --", []),
        ("~", None),
        ("é", None),
        ("a b c d e f g h i", None),
    ],
)
def test_search_finds_listings_that_begin_every_word(shelf: Products, search: str, titles: list[str] | None) -> None:
    if titles is not None:
        assert found(shelf, search) == titles
        return
    with pytest.raises(FieldInvalid, match="search"):
        found(shelf, search)


@pytest.mark.parametrize(
    ("search", "category", "titles"),
    [
        ("", "network", ["nginx web server", "Mail relay"]),
        ("mail", "network", ["Mail relay"]),
        ("mail", "web", []),
        ("", "net", []),
        ("", "storage", []),
    ],
)
def test_category_is_a_whole_word(shelf: Products, search: str, category: str, titles: list[str]) -> None:
    assert found(shelf, search, category) == titles


def test_search_follows_the_version_that_is_shown(products: Products) -> None:
    first = products.listed("1", summary="An old friend.")
    second = products.listed("2", summary="A new one.")
    assert (found(products, "friend"), found(products, "new")) == ([], ["Product"])
    products.withdraw(second)
    assert (found(products, "friend"), found(products, "new")) == (["Product"], [])
    products.withdraw(first)
    assert found(products, "friend") == []


def test_what_is_not_listed_is_not_found(products: Products) -> None:
    products.in_review(title="Secret")
    assert (found(products), found(products, "secret")) == ([], [])


def test_frequent_words_find_what_rare_ones_do(shelf: Products, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.search.FREQUENT", 1)
    assert found(shelf, "server fast") == ["nginx web server"]
    assert found(shelf, "mail", "network") == ["Mail relay"]


def test_words_are_lower_case_letters_and_digits_once() -> None:
    assert words_of("Web-Server, WEB 2.0 " + "x" * 70) == ["web", "server", "2", "0", "x" * 64]
    assert MAX_WORDS == 8


def test_pages_cover_every_listing_once(shelf: Products) -> None:
    first = list_listings(shelf.session, account="bob", limit=2)
    rest = list_listings(shelf.session, account="bob", after=first.after, limit=2)
    titles = [offered.listing.title for offered in [*first.rows, *rest.rows]]
    assert (titles, rest.after) == (["nginx web server", "Postgres 16", "Mail relay"], None)


def test_listing_is_found_by_id_and_by_title_that_is_one_alone(products: Products) -> None:
    version = products.listed()
    for wanted in (version.listing_id, "Product"):
        assert find_listing(products.session, account="bob", wanted=wanted) == version.listing_id
    products.listed(by=BOB)
    with pytest.raises(FieldInvalid, match="more than one"):
        find_listing(products.session, account="bob", wanted="Product")


def test_listing_without_a_listed_version_is_its_owners(products: Products) -> None:
    version = products.submit()
    assert find_listing(products.session, account="alice", wanted="Product") == version.listing_id
    assert [row.id for row in own_listings(products.session, account="alice")] == [version.id]
    for look in (find_listing, get_offered):
        named = {"wanted": "Product"} if look is find_listing else {"listing_id": version.listing_id}
        with pytest.raises(NotVisible):
            look(products.session, account="bob", **named)


def test_image_of_a_listing_is_seen_and_launched_by_subscribers(products: Products) -> None:
    version = products.listed()
    assert (images(products), launches(products, version)) == ([], False)
    products.subscribe(version)
    assert (images(products), launches(products, version)) == ([version.image_id], True)
    assert image_type(products.session, account="bob", image=products.image(version)) is ImageType.MARKETPLACE
    assert images(products, "admin") == []
    assert (products.licences(version), products.licences(version, account="alice")) == ([version.id], [])


def test_list_says_what_the_account_subscribed_to(products: Products) -> None:
    version = products.listed()
    assert not get_offered(products.session, account="bob", listing_id=version.listing_id).subscribed
    products.subscribe(version)
    [offered] = list_listings(products.session, account="bob").rows
    assert (offered.subscribed, offered.image.id) == (True, version.image_id)
    [(subscription, listing)] = list_subscriptions(products.session, account="bob")
    assert (subscription.version_id, listing.title) == (version.id, "Product")
    assert list_subscriptions(products.session, account="admin") == []


def test_subscription_again_is_the_same(products: Products) -> None:
    version = products.listed()
    first, again = products.subscribe(version), products.subscribe(version)
    assert first.accepted_at == again.accepted_at
    assert products.catalog.count(products.session, Subscription) == 1
    query = select(Audit.who, Audit.owner).where(col(Audit.new) == "subscribed")
    assert products.session.exec(query).all() == [("bob", "alice")]


def test_subscription_to_another_licence_text_is_refused(products: Products) -> None:
    version = products.listed()
    with pytest.raises(FieldInvalid, match=version.licence_digest):
        subscribe(products.session, listing_id=version.listing_id, licence_digest=licence_digest("Be unkind."), by=BOB)


def test_subscription_to_ones_own_listing_is_refused(products: Products) -> None:
    with pytest.raises(ImageRefused) as caught:
        products.subscribe(products.listed(), by=ALICE)
    assert caught.value.reason == "own"


def test_subscription_to_what_is_not_listed_is_refused(products: Products) -> None:
    version = products.in_review()
    with pytest.raises(NotVisible):
        products.subscribe(version)
    with pytest.raises(NotVisible):
        subscribe(products.session, listing_id=new_id(), licence_digest="0" * 64, by=BOB)


def test_subscription_covers_later_versions_with_the_same_licence(products: Products) -> None:
    first = products.listed("1")
    products.subscribe(first)
    second = products.listed("2")
    assert launches(products, first)
    assert launches(products, second)
    assert images(products) == [second.image_id, first.image_id]


def test_new_licence_text_needs_a_new_subscription(products: Products) -> None:
    first = products.listed("1")
    products.subscribe(first)
    second = products.listed("2", licence="Be very kind.")
    assert (launches(products, first), launches(products, second)) == (True, False)
    products.subscribe(second)
    assert launches(products, second)
    assert len(list_subscriptions(products.session, account="bob")) == 2


def test_version_withdrawn_for_new_subscribers_is_launched_by_earlier_ones(products: Products) -> None:
    version = products.listed("1")
    products.subscribe(version)
    products.withdraw(version, WithdrawnFor.NEW)
    with pytest.raises(NotVisible):
        products.subscribe(version, by=ADMIN)
    products.subscribe(products.listed("2"), by=ADMIN)
    assert (launches(products, version), launches(products, version, "admin")) == (True, False)
    assert (version.image_id in images(products), version.image_id in images(products, "admin")) == (True, False)


def test_version_withdrawn_for_all_is_launched_by_nobody(products: Products) -> None:
    version = products.listed()
    products.subscribe(version)
    ecs = products.launch(version)
    products.withdraw(version)
    assert (launches(products, version), images(products)) == (False, [])
    products.session.refresh(ecs)
    assert ecs.state == "building"


def test_image_in_two_versions_is_listed_once(products: Products) -> None:
    image = products.catalog.active(products.session)
    for name in ("1", "2"):
        products.subscribe(products.listed(name, image=image))
    other = products.listed(title="Other", image=image)
    products.subscribe(other)
    assert images(products) == [image.id]


def test_image_that_several_versions_offer_does_not_cut_a_page_short(products: Products) -> None:
    older = products.listed("0", title="Older")
    products.subscribe(older)
    image = products.catalog.active(products.session)
    for name in ("1", "2", "3"):
        products.subscribe(products.listed(name, image=image))
    chosen = ImageFilter(type=ImageType.MARKETPLACE)
    first = list_images(products.session, account="bob", chosen=chosen, limit=1)
    rest = list_images(products.session, account="bob", chosen=chosen, after=first.after, limit=1)
    assert [row.id for row in [*first.rows, *rest.rows]] == [image.id, older.image_id]


def test_listing_of_an_image_is_told(products: Products) -> None:
    version = products.listed()
    listing = listed_image(products.session, image_id=version.image_id)
    assert listing is not None
    assert listing.id == version.listing_id
    products.withdraw(version, WithdrawnFor.NEW)
    assert listed_image(products.session, image_id=version.image_id) is None
