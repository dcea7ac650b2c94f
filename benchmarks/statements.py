"""What a query of the catalog makes a database do: its statements, the processor time they take in it, and their plans.

The time is that of the server's process (PostgreSQL) or of our thread (SQLite) for execution and fetch: what the statements
take on a machine that has nothing else to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlmodel import Session

WARMING = 5
"""Executions of a prepared statement after which PostgreSQL may settle on one plan for any values."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as the driver got it."""

    text: str
    values: Any


def statements_of(engine: Engine, query: Callable[[], object]) -> list[Statement]:
    """What the query executes."""
    found: list[Statement] = []

    def note(_connection: Any, _cursor: Any, text: str, values: Any, *_: Any) -> None:
        found.append(Statement(text, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        query()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return found


def milliseconds(session: Session, statements: list[Statement]) -> Iterator[float]:
    """Processor time of all of them together, once more whenever another figure is asked for."""
    driver, clock, options = _driver(session), time.thread_time, {}
    if _is_postgres(session):
        clock, options = _server_clock(driver.info.backend_pid), {"prepare": True}
        for _ in range(WARMING):
            _run(driver, statements, clock, options)
    while True:
        yield _run(driver, statements, clock, options) * 1000


def scans(session: Session, statement: Statement, *, tables: frozenset[str]) -> list[str]:
    """Where the plan reads one of the tables from its first row to its last, whatever the conditions."""
    cursor = _driver(session).cursor()
    if _is_postgres(session):
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement.text}", statement.values)
        nodes = _nodes(cursor.fetchone()[0][0]["Plan"])
        read = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
        return [f"Seq Scan on {table}" for table in read if table in tables]
    cursor.execute(f"EXPLAIN QUERY PLAN {statement.text}", statement.values)
    return [line for *_, line in cursor.fetchall() if _reads_all(line, tables)]


def _reads_all(line: str, tables: frozenset[str]) -> bool:
    """A walk along an index is none: what walks one stops at the page's end."""
    step, _, rest = line.partition(" ")
    return (step == "SCAN" and rest.split()[0] in tables and "USING" not in rest) or "AUTOMATIC" in rest


def _run(driver: Any, statements: list[Statement], clock: Callable[[], float], options: dict[str, bool]) -> float:
    began = clock()
    for statement in statements:
        cursor = driver.cursor()
        cursor.execute(statement.text, statement.values, **options)
        cursor.fetchall()
    return clock() - began


def _server_clock(process: int) -> Callable[[], float]:
    """Seconds that a process has spent on processors."""
    path = Path(f"/proc/{process}/schedstat")
    return lambda: int(path.read_text().split()[0]) / 1e9


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _driver(session: Session) -> Any:
    return session.connection().connection.driver_connection


def _is_postgres(session: Session) -> bool:
    return session.connection().dialect.name == "postgresql"
