"""Pages of images or ECSs, newest first, by the place where the last one ended (keyset): a deep page costs what the first
does. Which rows are in them is decided in `models.images` and `models.ecs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, literal, tuple_
from sqlmodel import Session, col
from sqlmodel.sql.expression import SelectOfScalar
from sqlmodel.sql.sqltypes import UTCDateTime

from models.exceptions import FieldInvalid
from models.tables import Ecs, Image
from models.validation import check_at_least

Listed = TypeVar("Listed", Image, Ecs)
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[Listed]):
    """Some rows, and the `after` that gives the next ones; None at the end."""

    rows: Sequence[Listed]
    after: str | None


def fetch_page(
    session: Session, *, query: SelectOfScalar[Listed], table: type[Listed], after: str | None, limit: int
) -> Page[Listed]:
    """The first `limit` rows of the query beyond `after`. Raises FieldInvalid for a place that no page gave."""
    check_at_least(limit, field="limit", minimum=1)
    limit = min(limit, MAX_PAGE)
    place = tuple_(col(table.created_at), col(table.id))
    if after is not None:
        query = query.where(place < _parse(after))
    newest = query.order_by(col(table.created_at).desc(), col(table.id).desc()).limit(limit + 1)
    rows = session.exec(newest).all()
    return Page(rows[:limit], _place(rows[limit - 1]) if len(rows) > limit else None)


def _place(row: Image | Ecs) -> str:
    return f"{row.created_at.isoformat()}/{row.id}"


def _parse(after: str) -> ColumnElement[Any]:
    moment, _, row_id = after.partition("/")
    try:
        created_at = datetime.fromisoformat(moment)
    except ValueError as error:
        raise FieldInvalid("after", "not a place that a page ended at") from error
    if created_at.tzinfo is None:
        raise FieldInvalid("after", "not a place that a page ended at")
    return tuple_(literal(created_at, UTCDateTime()), literal(row_id))
