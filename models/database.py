"""Where the catalog is kept: engines, sessions and the way to the newest schema. Tables are in `models.tables`.

SQLite under IMS_HOME by default, PostgreSQL by address. Writers of SQLite begin IMMEDIATE: they wait for each other at
the start of their transaction instead of failing in the middle of it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import ORMExecuteState
from sqlmodel import Session

from models.exceptions import CatalogUnreachable, FieldInvalid

BUSY_SECONDS = 30
CONNECT_SECONDS = 5
MIGRATIONS = Path(__file__).with_name("migrations")
_MIGRATION_LOCK = 0x696D73
"""Number of the PostgreSQL advisory lock that migrations hold: "ims"."""

_SQLITE_TRANSIENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
)


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql://...`; connects at the first use. Raises FieldInvalid for others."""
    address = _parse(url)
    if address.get_backend_name() == "sqlite":
        return _open_sqlite(Path(address.database or ""))
    options = {"connect_timeout": CONNECT_SECONDS, "application_name": "ims"}
    engine = create_engine(address, pool_pre_ping=True, connect_args=options)
    event.listen(engine, "connect", _prepare_postgres)
    return engine


@contextmanager
def session_scope(engine: Engine, write: bool = False) -> Iterator[Session]:
    """One transaction: committed at the end when `write`, else read-only; rolled back on any error. Rows outlive it.

    A read locks no row, whatever a query says: reads and writes share queries, and PostgreSQL refuses locks to a reader.

    Raises CatalogUnreachable when the database does not answer, stays locked, or has no catalog in it.
    """
    options = {"ims_write": write, "postgresql_readonly": not write}
    try:
        with Session(engine, expire_on_commit=False) as session:
            session.connection(execution_options=options)
            if not write:
                event.listen(session, "do_orm_execute", _without_lock)
            yield session
            if write:
                session.commit()
    except PoolTimeout as error:
        raise CatalogUnreachable("all connections are in use") from error
    except DBAPIError as error:
        if reason := _unreachable(error, write=write):
            raise CatalogUnreachable(reason) from error
        raise


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema; safe when several processes start at once. Raises CatalogUnreachable."""
    from alembic import command  # a read command never pays for importing it
    from alembic.config import Config

    if engine.dialect.name == "sqlite":
        _create_file(Path(str(engine.url.database)))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with session_scope(engine, write=True) as session:
        connection = session.connection()
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _without_lock(state: ORMExecuteState) -> None:
    statement: Any = state.statement
    if state.is_select and getattr(statement, "_for_update_arg", None) is not None:
        statement = statement._generate()  # SQLAlchemy has no public way to take FOR UPDATE back
        statement._for_update_arg = None
        state.statement = statement


def _parse(url: str) -> URL:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise FieldInvalid("database_url", "not a database address") from error
    if backend == "sqlite" and address.database not in (None, "", ":memory:"):
        return address
    if backend in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    raise FieldInvalid("database_url", "sqlite:///PATH or postgresql://...")


def _open_sqlite(path: Path) -> Engine:
    # mode=rw: reading a catalog that does not exist must fail instead of leaving an empty file behind.
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, check_same_thread=False
        ),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgres(connection: Any, _record: Any) -> None:
    # Compiling a list's conditions takes longer than reading the page.
    connection.execute("SET jit = off")
    connection.commit()


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # sqlite3 would begin transactions by itself, late and deferred; _begin_sqlite does it instead.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("ims_write", True)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _create_file(path: Path) -> None:
    """An empty database in WAL mode that only we may read, complete from the moment its name exists."""
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise CatalogUnreachable(f"{path.parent}: {error.strerror}") from error
    os.close(handle)
    try:
        with suppress(FileExistsError):
            _enter_wal(draft)
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _enter_wal(path: str) -> None:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _unreachable(error: DBAPIError, *, write: bool) -> str | None:
    """One line on why the database cannot be used, or None when the statement itself is at fault."""
    cause = error.orig
    reason = " ".join(str(cause).split())
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        return _sqlite_reason(code, reason, write=write)
    if getattr(cause, "sqlstate", None) == "42P01":
        return "it holds no catalog; run `ims up`"
    return reason if error.connection_invalidated or type(error).__name__ == "OperationalError" else None


def _sqlite_reason(code: int, reason: str, *, write: bool) -> str | None:
    if reason.startswith("no such table"):
        return "it holds no catalog; run `ims up`"
    if code == sqlite3.SQLITE_CANTOPEN:
        return "there is no catalog that this user can open; run `ims up`"
    if code == sqlite3.SQLITE_READONLY and write:  # without `write` it is the caller who broke its own word
        return "this user may not write it"
    return reason if code in _SQLITE_TRANSIENT else None
