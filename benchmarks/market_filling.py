"""Fills a migrated, empty catalog with `benchmarks.market_catalog`: COPY into PostgreSQL, executemany into SQLite.

Secondary indexes are dropped before and made again afterwards, and keys between tables are not checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.schema import CreateIndex, DropIndex

from benchmarks.market_catalog import COLUMNS, MarketCatalog, Row
from models import tables

BATCH = 2_000
BINARY = "logo_png"
POSTGRES = (
    "SET session_replication_role = replica",
    "SET timezone = 'UTC'",
    "SET synchronous_commit = off",
    "SET maintenance_work_mem = '256MB'",
)
SQLITE = (
    "PRAGMA query_only = OFF",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -400000",
)


def fill(engine: Engine) -> None:
    """All rows of all tables, and for PostgreSQL what it does by itself within a minute (autovacuum)."""
    postgres = engine.dialect.name == "postgresql"
    indexes = [index for name in COLUMNS for index in tables.Row.metadata.tables[name].indexes]
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        driver.rollback()
        for statement in POSTGRES if postgres else SQLITE:
            driver.execute(statement)
        _execute(engine, driver, [DropIndex(index) for index in indexes])
        _insert_all(driver, _copy if postgres else _insert)
        _execute(engine, driver, [CreateIndex(index) for index in indexes])
        driver.commit()
        _settle(driver, postgres=postgres)
    finally:
        connection.invalidate()


def _settle(driver: Any, *, postgres: bool) -> None:
    """SQLite gets no statistics: the service gathers none either."""
    if postgres:
        driver.autocommit = True
    driver.execute("VACUUM ANALYZE" if postgres else "PRAGMA journal_mode = WAL")


def _insert_all(driver: Any, insert: Any) -> None:
    market = MarketCatalog()
    for table in COLUMNS:
        insert(driver, table, getattr(market, table)())


def _execute(engine: Engine, driver: Any, changes: Iterable[Any]) -> None:
    for change in changes:
        driver.execute(str(change.compile(dialect=engine.dialect)))


def _insert(driver: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    names = COLUMNS[table].split()
    places = ", ".join("?" * len(names))
    driver.execute("BEGIN")
    driver.executemany(f"INSERT INTO {table} ({_quoted(names)}) VALUES ({places})", _with_bytes(names, rows))
    driver.execute("COMMIT")


def _copy(driver: Any, table: str, rows: Iterable[Row]) -> None:
    names = COLUMNS[table].split()
    binary = names.index(BINARY) if BINARY in names else None
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({_quoted(names)}) FROM STDIN") as copy:
        lines = (_line(row, binary) for row in rows)
        while batch := "".join(islice(lines, BATCH)):
            copy.write(batch)


def _line(row: Row, binary: int | None) -> str:
    """One row in COPY's text format; no value has a tab, a line end or a backslash in it."""
    cells = ["\\N" if value is None else str(value) for value in row]
    if binary is not None and row[binary] is not None:
        cells[binary] = f"\\\\x{row[binary]}"
    return "\t".join(cells) + "\n"


def _with_bytes(names: list[str], rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """Rows with what is binary as bytes."""
    if BINARY not in names:
        return iter(rows)
    place = names.index(BINARY)
    return ((*row[:place], _bytes(row[place]), *row[place + 1 :]) for row in rows)


def _bytes(value: object) -> bytes | None:
    return bytes.fromhex(str(value)) if value is not None else None


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
