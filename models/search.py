"""The marketplace's search index: the words of what is listed, in a table of both databases' own.

A search finds listings in which every word of it begins a word. What is in the index is decided in `index_listing` alone.
"""

from __future__ import annotations

import re

import sqlalchemy
from sqlalchemy import ColumnElement, and_, delete, func
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid
from models.market_tables import Listing, ListingWord, Version
from models.plans import among, holds
from models.tables import Image
from models.validation import check_categories

MAX_WORDS = 8
"""Of one search."""
MAX_WORD = 64
FREQUENT = 4_000
"""Rows of the index from which on a word is not looked up in it."""
_WORD = re.compile(r"[a-z0-9]+")
_BEYOND = "~"
"""Sorts behind every character that a word may have."""


def index_listing(session: Session, *, listing: Listing, version: Version | None) -> None:
    """Replace the words of the listing by those of this version; None takes it out of the index."""
    session.exec(delete(ListingWord).where(col(ListingWord.listing_id) == listing.id))
    if version is None:
        return
    image = session.get_one(Image, version.image_id)
    told = (listing.title, version.summary, version.name, listing.owner, image.os_distro, image.os_version, *version.categories)
    words = {word for text in told for word in words_of(text or "")}
    words |= {category_word(category) for category in version.categories}
    session.add_all(ListingWord(word=word, listing_id=listing.id) for word in sorted(words))
    session.flush()


def words_of(text: str) -> list[str]:
    """The words of a text, each once, lower case and cut."""
    return list(dict.fromkeys(word[:MAX_WORD] for word in _WORD.findall(text.lower())))


def category_word(category: str) -> str:
    """How a category is in the index: no word of a search begins it."""
    return f":{category}"


def matches(session: Session, *, search: str, category: str | None) -> list[ColumnElement[bool]]:
    """Conditions on listings. Raises FieldInvalid for a search without any word in it or with too many, or for no category.

    A rare word's listings are looked up and the other words asked of them alone; where each of the words is frequent, listings
    are read in their order until the page is full.
    """
    words = words_of(search)
    if search.strip() and not words:
        raise FieldInvalid("search", "no letter or digit in it")
    if len(words) > MAX_WORDS:
        raise FieldInvalid("search", f"at most {MAX_WORDS} words")
    if category:
        check_categories([category])
    wanted = [and_(col(ListingWord.word) >= word, col(ListingWord.word) < word + _BEYOND) for word in words]
    wanted += [col(ListingWord.word) == category_word(category)] if category else []
    if not wanted:
        return []
    counts = session.connection().execute(sqlalchemy.select(*(_count(each) for each in wanted))).one()
    places = sorted(range(len(wanted)), key=counts.__getitem__)
    return [
        _among(wanted[place]) if not number and counts[place] < FREQUENT else _has(wanted[place])
        for number, place in enumerate(places)
    ]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """How many rows of the index meet the condition, counted up to FREQUENT."""
    rows = select(col(ListingWord.listing_id)).where(condition).order_by(col(ListingWord.word)).limit(FREQUENT).subquery()
    return select(func.count()).select_from(rows).scalar_subquery()


def _among(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return among(Listing.id, select(ListingWord.listing_id).where(condition))


def _has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return holds(select(ListingWord).where(col(ListingWord.listing_id) == col(Listing.id), condition), over=Listing)
