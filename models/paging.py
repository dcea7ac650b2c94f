"""Pages, newest first, by the place where the last one ended (keyset): a deep page costs what the first does.

A place is a row's time and id. Which rows are in a page is decided in the module of each noun.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, literal, tuple_
from sqlalchemy.orm import defer
from sqlalchemy.sql.base import ExecutableOption
from sqlmodel import Session
from sqlmodel.sql.sqltypes import UTCDateTime

from models.exceptions import FieldInvalid
from models.validation import check_at_least

Listed = TypeVar("Listed")
MAX_PAGE = 1000
_ID = re.compile(r"[0-9A-Za-z-]{1,36}")


@dataclass(frozen=True, slots=True)
class Page(Generic[Listed]):
    """Some rows, and the `after` that gives the next ones; None at the end."""

    rows: Sequence[Listed]
    after: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where places come from: a query without order, and the columns of its rows that an index orders by."""

    query: Any
    time: Any
    id: Any


def find_places(session: Session, *, sources: Sequence[Source], after: str | None, limit: int) -> Page[str]:
    """The ids of the newest `limit` rows of all sources together beyond `after`. Raises FieldInvalid for no such place.

    Each source is asked by itself for as many rows as the page has, so that each is read from its own index.
    """
    check_at_least(limit, field="limit", minimum=1)
    limit = min(limit, MAX_PAGE)
    beyond = _parse(after) if after is not None else None
    found: set[tuple[datetime, str]] = set()
    for source in sources:
        query = source.query.with_only_columns(source.time, source.id, maintain_column_froms=True)
        if beyond is not None:
            query = query.where(tuple_(source.time, source.id) < beyond)
        newest = query.order_by(source.time.desc(), source.id.desc()).limit(limit + 1)
        found |= {(time, row_id) for time, row_id in session.connection().execute(newest)}
    places = sorted(found, reverse=True)[: limit + 1]
    last = f"{places[limit - 1][0].isoformat()}/{places[limit - 1][1]}" if len(places) > limit else None
    return Page([row_id for _, row_id in places[:limit]], last)


def without(*columns: Any) -> list[ExecutableOption]:
    """Options of a query that leave these columns in the database until somebody asks a row for them."""
    return [defer(column) for column in columns]


def _parse(after: str) -> ColumnElement[Any]:
    moment, _, row_id = after.partition("/")
    try:
        created_at = datetime.fromisoformat(moment)
        created_at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FieldInvalid("after", "not a place that a page ended at") from error
    if created_at.tzinfo is None or not _ID.fullmatch(row_id):
        raise FieldInvalid("after", "not a place that a page ended at")
    return tuple_(literal(created_at, UTCDateTime()), literal(row_id))
