"""The marketplace's search index: the words of what is listed, in a table of both databases' own.

A search finds listings in which every word of it begins a word. What is in the index is decided in `index_listing` alone.
"""

from __future__ import annotations

import re

from sqlalchemy import ColumnElement, and_, delete
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid
from models.tables import Image, Listing, ListingWord, Version

MAX_WORDS = 8
"""Of one search."""
MAX_WORD = 64
_WORD = re.compile(r"[a-z0-9]+")
_BEYOND = "~"
"""Sorts behind every character that a word may have."""


def index_listing(session: Session, *, listing: Listing, version: Version | None) -> None:
    """Replace the words of the listing by those of this version; None takes it out of the index."""
    session.exec(delete(ListingWord).where(col(ListingWord.listing_id) == listing.id))
    if version is None:
        return
    image = session.get_one(Image, version.image_id)
    told = (listing.title, version.summary, version.name, listing.owner, image.os_distro, image.os_version)
    words = {word for text in told for word in words_of(text or "")} | set(version.categories)
    words |= {category_word(category) for category in version.categories}
    session.add_all(ListingWord(word=word, listing_id=listing.id) for word in sorted(words))
    session.flush()


def words_of(text: str) -> list[str]:
    """The words of a text, each once, lower case and cut."""
    return list(dict.fromkeys(word[:MAX_WORD] for word in _WORD.findall(text.lower())))


def category_word(category: str) -> str:
    return f"category:{category}"


def matches(search: str, category: str | None) -> list[ColumnElement[bool]]:
    """Conditions on listings. Raises FieldInvalid for a search without any word in it, or with too many."""
    words = words_of(search)
    if search.strip() and not words:
        raise FieldInvalid("search", "no letter or digit in it")
    if len(words) > MAX_WORDS:
        raise FieldInvalid("search", f"at most {MAX_WORDS} words")
    conditions = [_has(and_(col(ListingWord.word) >= word, col(ListingWord.word) < word + _BEYOND)) for word in words]
    return conditions + ([_has(col(ListingWord.word) == category_word(category))] if category else [])


def _has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return col(Listing.id).in_(select(ListingWord.listing_id).where(condition))
