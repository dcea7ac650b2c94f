"""catalog.*: first pages over a large catalog, beside the same page asked for in one straightforward query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from benchmarks import market_catalog as market
from benchmarks.imports import Bench
from benchmarks.market_filling import fill
from benchmarks.postgres_server import run_postgres
from benchmarks.results import Result, alternate
from benchmarks.statements import milliseconds, statements_of
from models.database import migrate, open_engine, session_scope
from models.images import list_images, visible_to
from models.listings import list_listings
from models.market_tables import Listing, ListingWord, Version
from models.tables import Image

PAGE = 50
ACCOUNTS = {"heavy": market.HEAVY, "average": market.AVERAGE, "light": market.LIGHT}
Query = Callable[[Session], object]


def catalog(bench: Bench) -> Iterator[Result]:
    """Both databases, the same rows."""
    yield from _measure("sqlite", f"sqlite:///{bench.scratch}/market.db")
    with run_postgres() as url:
        yield from _measure("postgresql", url)


def _measure(database: str, url: str) -> Iterator[Result]:
    engine = open_engine(url)
    migrate(engine)
    fill(engine)
    for who, account in ACCOUNTS.items():
        ours, peer = partial(list_images, account=account), partial(_images, account=account)
        yield _compare(engine, f"catalog.images.{who}.{database}", ours, peer)
    for search, words in {"none": [], "one": [market.COMMON_WORD], "two": [market.COMMON_WORD, market.RARE_WORD]}.items():
        listed = partial(list_listings, account=market.AVERAGE, search=" ".join(words))
        yield _compare(engine, f"catalog.search.{search}.{database}", listed, partial(_listings, words=words))
    engine.dispose()


def _compare(engine: Engine, name: str, ours: Query, peer: Query) -> Result:
    with session_scope(engine) as session:
        times = [milliseconds(session, statements_of(engine, partial(query, session))) for query in (ours, peer)]
        return alternate(name, ours=partial(next, times[0]), peer=partial(next, times[1]), unit="ms")


def _images(session: Session, *, account: str) -> None:
    """Every image that the account sees, by one condition."""
    newest = select(Image).where(visible_to(account)).order_by(col(Image.created_at).desc(), col(Image.id).desc())
    session.exec(newest.limit(PAGE)).all()


def _listings(session: Session, *, words: list[str]) -> None:
    """The listings that are among those of every word, with what is shown of them."""
    shown = col(Version.id) == col(Listing.version_id), col(Image.id) == col(Version.image_id)
    query = select(Listing, Version, Image).where(*shown, col(Listing.listed_at).is_not(None))
    for word in words:
        begun = col(ListingWord.word).between(word, f"{word}~")
        query = query.where(col(Listing.id).in_(select(ListingWord.listing_id).where(begun)))
    session.exec(query.order_by(col(Listing.listed_at).desc(), col(Listing.id).desc()).limit(PAGE)).all()
