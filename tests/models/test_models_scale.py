"""Lists and searches over 100,000 images, 1,000,000 shares, 20,000 listings: by indexes alone, in time, on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, func
from sqlmodel import Session, select

from benchmarks import market_catalog as market
from benchmarks.market_filling import fill
from benchmarks.statements import milliseconds, scans, statements_of
from models import figures
from models.database import open_engine, session_scope
from models.images import ImageFilter, get_image, list_images
from models.listings import find_listing, get_offered, list_listings, list_subscriptions, list_versions, own_listings
from models.market_tables import Member
from models.sharing import expired_members, list_members, list_offers
from models.tables import Image, Row
from models.versions import list_reviews, overdue_reviews, versions_of_image
from models.vocabulary import ImageState, ImageType, MemberState

LIMIT = {"sqlite": 200, "postgresql": 50}
"""Milliseconds in the database, of which the best run counts: processors are shared."""
OF_ALL = 1500
"""Milliseconds for a figure over all images and shares."""
RUNS = 5
LARGE = frozenset({"image", "disk", "member", "listing", "version", "listing_word", "subscription"})
ACCOUNTS = {"heavy": market.HEAVY, "average": market.AVERAGE, "light": market.LIGHT}
NAMES = {"common": market.COMMON_NAME, "rare": market.RARE_NAME, "absent": "no image"}
SEARCHES: dict[str, dict[str, str]] = {
    "all": {},
    "rare": {"search": market.RARE_WORD},
    "common": {"search": market.COMMON_WORD},
    "begun": {"search": "w"},
    "two": {"search": f"{market.COMMON_WORD} product"},
    "two-rare": {"search": f"{market.COMMON_WORD} {market.RARE_WORD}"},
    "two-halves": {"search": "word0050 word0003"},
    "eight": {"search": "a p d l 1 0 w c"},
    "absent": {"search": "nowhere"},
    "category": {"category": "web"},
    "category-word": {"category": "web", "search": "linux word0003"},
}
Query = Callable[..., Any]


def images(account: str, **chosen: Any) -> Query:
    return partial(list_images, account=account, chosen=ImageFilter(**chosen))


def queries() -> Iterator[tuple[str, Query]]:
    """Everything that an account may list, by name."""
    for who, account in ACCOUNTS.items():
        for kind in (None, *ImageType):
            yield f"images-{kind or 'all'}-{who}", images(account, type=kind)
        for name, wanted in NAMES.items():
            yield f"images-named-{name}-{who}", images(account, name=wanted)
            yield f"image-found-{name}-{who}", partial(images(account, name=wanted, everything=True), limit=2)
        yield f"images-in-error-{who}", images(account, state=ImageState.ERROR)
        for state in MemberState:
            yield f"offers-{state}-{who}", partial(list_offers, account=account, state=state)
        for search, asked in SEARCHES.items():
            yield f"listings-{search}-{who}", partial(list_listings, account=account, **asked)
        yield f"listing-offered-{who}", partial(get_offered, account=account, listing_id=market.listing_id(0))
        yield f"listing-found-{who}", partial(find_listing, account=account, wanted="Product 77")
        yield f"listing-versions-{who}", partial(list_versions, account=account, listing_id=market.listing_id(3))
        yield f"listings-own-{who}", partial(own_listings, account=account)
        yield f"subscriptions-{who}", partial(list_subscriptions, account=account)


QUERIES = dict(queries())
PAGED = [name for name in QUERIES if name.startswith(("images-all", "images-shared", "images-market", "listings-all"))]
PAGED += [name for name in QUERIES if name.startswith(("offers-accepted", "listings-common", "listings-two"))]


class Large:
    """A filled catalog, and what it is asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.limit = LIMIT[engine.dialect.name]

    def check(self, query: Callable[[Session], object]) -> None:
        """The query's statements take their time and read no table."""
        with session_scope(self.engine) as session:
            statements = statements_of(self.engine, lambda: query(session))
            assert [found for each in statements for found in scans(session, each, tables=LARGE)] == []
            taken = []
            for each in islice(milliseconds(session, statements), RUNS):
                taken.append(round(each, 1))
                if each < self.limit:
                    break
        assert taken[-1] < self.limit, f"{taken} ms in {len(statements)} statements"

    def any_share(self) -> Member:
        with session_scope(self.engine) as session:
            found = select(Member).where(Member.account == market.HEAVY, Member.state == MemberState.ACCEPTED).limit(1)
            return session.exec(found).one()

    def count(self, table: type[Row]) -> int:
        with session_scope(self.engine) as session:
            return session.exec(select(func.count()).select_from(table)).one()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    kept = _sqlite if request.param == "sqlite" else _postgres
    folder = tmp_path_factory.mktemp("large")
    engine = open_engine(kept(request, folder))
    fill(engine)
    yield Large(engine)
    engine.dispose()
    shutil.rmtree(folder)


def _sqlite(request: pytest.FixtureRequest, folder: Path) -> str:
    shutil.copy(request.getfixturevalue("sqlite_template"), folder / "catalog.db")
    return f"sqlite:///{folder}/catalog.db"


def _postgres(request: pytest.FixtureRequest, folder: Path) -> str:
    server: str = request.getfixturevalue("postgres_url")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {folder.name} TEMPLATE {request.getfixturevalue('postgres_template')}")
    return server.replace("/postgres?", f"/{folder.name}?")


def test_catalog_is_as_large_as_stated(large: Large) -> None:
    assert (large.count(Image), large.count(Member)) == (100_000, 1_000_000)


def test_some_accounts_see_thousands_and_one_what_is_public_alone(large: Large) -> None:
    with session_scope(large.engine) as session:
        shared = list_images(session, account=market.HEAVY, chosen=ImageFilter(type=ImageType.SHARED), limit=1000)
        bought = list_images(session, account=market.HEAVY, chosen=ImageFilter(type=ImageType.MARKETPLACE), limit=1000)
        public = list_images(session, account=market.LIGHT, limit=1000)
    assert (len(shared.rows), len(bought.rows)) == (1000, 1000)
    assert all(image.public for image in public.rows)


@pytest.mark.parametrize("name", QUERIES)
def test_first_page_is_in_time(large: Large, name: str) -> None:
    large.check(QUERIES[name])


@pytest.mark.parametrize("before", [50, 1000])
@pytest.mark.parametrize("name", PAGED)
def test_page_further_on_is_in_time(large: Large, name: str, before: int) -> None:
    with session_scope(large.engine) as session:
        after = QUERIES[name](session, limit=before).after
    large.check(partial(QUERIES[name], after=after))


def test_last_page_is_in_time(large: Large) -> None:
    large.check(partial(images(market.HEAVY), after="2020-01-01T00:00:00+00:00/x"))


def test_what_is_asked_of_one_image_is_in_time(large: Large) -> None:
    share = large.any_share()
    large.check(partial(get_image, account=market.HEAVY, image_id=share.image_id))
    large.check(partial(list_members, account=share.owner, image_id=share.image_id))
    large.check(partial(versions_of_image, image_id=share.image_id))


def test_what_schedules_and_reviewers_ask_is_in_time(large: Large) -> None:
    large.check(expired_members)
    large.check(overdue_reviews)
    large.check(partial(list_reviews, account=market.account(1)))


@pytest.mark.parametrize("name", ["count_images", "count_ecs", "count_running", "count_failed", "sum_bytes"])
def test_what_metrics_ask_is_in_time(large: Large, name: str) -> None:
    """These are of everything, so they read everything; what serves them asks at most once in a while."""
    with session_scope(large.engine) as session:
        statements = statements_of(large.engine, lambda: getattr(figures, name)(session))
        assert min(islice(milliseconds(session, statements), RUNS)) < OF_ALL


def test_statistics_do_no_harm(large: Large) -> None:
    """SQLite has none here, as in the service; somebody may have them gathered."""
    with large.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    for who in ACCOUNTS:
        large.check(QUERIES[f"images-all-{who}"])
        large.check(QUERIES[f"listings-two-{who}"])
