"""Fills a migrated, empty catalog with `benchmarks.market_catalog`: COPY into PostgreSQL, executemany into SQLite, and statistics.

Secondary indexes are dropped before and made again afterwards, and keys between tables are not checked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from benchmarks.market_catalog import COLUMNS, MarketCatalog, Row
from models import tables

BATCH = 2_000
BINARY = {"logo_png"}


def fill(engine: Engine, *, statistics: bool = True) -> None:
    """All rows of all tables. `statistics` is what PostgreSQL gathers by itself within minutes (autovacuum)."""
    indexes = [index for name in COLUMNS for index in tables.Row.metadata.tables[name].indexes]
    _each(engine, [index.drop for index in indexes])
    postgres = engine.dialect.name == "postgresql"
    market, copy = MarketCatalog(), _copy if postgres else _insert
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        _prepare(driver, postgres=postgres)
        for table in COLUMNS:
            copy(driver, table, getattr(market, table)())
        driver.commit()
    finally:
        connection.invalidate()
    _each(engine, [index.create for index in indexes])
    if statistics:
        analyze(engine)


def analyze(engine: Engine) -> None:
    """Gather statistics on all tables, as the database does or would."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _each(engine: Engine, changes: Iterable[Any]) -> None:
    with engine.begin() as connection:
        for change in changes:
            change(connection)


def _prepare(driver: Any, *, postgres: bool) -> None:
    settings = ["SET session_replication_role = replica", "SET timezone = 'UTC'", "SET synchronous_commit = off"]
    unchecked = ["PRAGMA foreign_keys = OFF", "PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000"]
    for statement in settings if postgres else [*unchecked, "PRAGMA query_only = OFF", "BEGIN"]:
        driver.execute(statement)


def _insert(driver: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    names = COLUMNS[table].split()
    places = ", ".join("?" * len(names))
    driver.executemany(f"INSERT INTO {table} ({_quoted(names)}) VALUES ({places})", _with_bytes(names, rows))


def _copy(driver: Any, table: str, rows: Iterable[Row]) -> None:
    names = COLUMNS[table].split()
    binary = [number for number, name in enumerate(names) if name in BINARY]
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({_quoted(names)}) FROM STDIN") as copy:
        lines = (_line(row, binary) for row in rows)
        while batch := "".join(islice(lines, BATCH)):
            copy.write(batch)


def _line(row: Row, binary: list[int]) -> str:
    """One row in COPY's text format; no value has a tab, a line end or a backslash in it."""
    cells = ["\\N" if value is None else str(value) for value in row]
    for number in binary:
        cells[number] = cells[number] if row[number] is None else f"\\\\x{row[number]}"
    return "\t".join(cells) + "\n"


def _with_bytes(names: list[str], rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """Rows with what is binary as bytes."""
    binary = {number for number, name in enumerate(names) if name in BINARY}
    if not binary:
        return iter(rows)
    return (
        tuple(
            bytes.fromhex(str(value)) if number in binary and value is not None else value for number, value in enumerate(row)
        )
        for row in rows
    )


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
