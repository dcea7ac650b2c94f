"""What every table of the catalog is made with: the base class, ids, times, and columns that both databases take.

The tables are `models.tables` and, of shares and the marketplace, `models.market_tables`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import BigInteger, Enum, Integer, MetaData, String
from sqlmodel import SQLModel

GIB = 1 << 30


def utc_now() -> datetime:
    """The catalog's clock; every stored time is aware and UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    return str(uuid.uuid4())


def _values(kind: type[StrEnum]) -> list[str]:
    return [word.value for word in kind]


def word_column(kind: type[StrEnum]) -> Enum:
    """A column of one vocabulary, stored as its words: a native enumeration could not gain one in a plain migration."""
    return Enum(kind, native_enum=False, create_constraint=False, length=16, values_callable=_values)


SERIAL = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only where the column is spelled INTEGER."""

INDEXED_WORD = String(64).with_variant(String(64, collation="C"), "postgresql")
"""Sorted by its bytes, so that a beginning is a range in both databases."""


class Row(SQLModel):
    """Base of all tables: their own metadata, with constraint names that migrations can refer to."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
