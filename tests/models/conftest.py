"""Both databases for the catalog's tests: SQLite files, and a real PostgreSQL server that lives as long as the session.

The server runs as user postgres when we are root, which it refuses to be, and listens on a unix socket alone.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from catalog_rows import Catalog
from sqlalchemy import Engine

from models.database import migrate, open_engine

_numbers = itertools.count()


def _postgres(*command: str) -> list[str]:
    """The command line of one of the server's programs, as user postgres if need be, ending when we end."""
    folder = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=QUIT", str(folder / command[0]), *command[1:]]


@contextmanager
def run_postgres() -> Iterator[str]:
    """A fresh server, quick because it never syncs; yields the address of its database `postgres`."""
    folder = tempfile.mkdtemp(prefix="ims-postgres-")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = ["-D", f"{folder}/data"]
    initdb = _postgres("initdb", *data, "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
    server = None
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        with open(f"{folder}/log", "wb") as log:
            options = ["-k", folder, "-c", "listen_addresses=", "-F", "-c", "full_page_writes=off"]
            command = _postgres("postgres", *data, *options)
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        _wait_for(server, folder=folder)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder)


def _wait_for(server: subprocess.Popen[bytes], *, folder: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=folder, user="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with run_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """Name of a migrated database to copy."""
    _execute(postgres_url, "CREATE DATABASE migrated")
    _migrate(postgres_url.replace("/postgres?", "/migrated?"))
    return "migrated"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    path = tmp_path_factory.mktemp("catalog") / "migrated.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a database that was never migrated; the SQLite file does not exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    server: str = request.getfixturevalue("postgres_url")
    name = f"empty{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a migrated database of this test alone."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "catalog.db")
        return f"sqlite:///{tmp_path}/catalog.db"
    server: str = request.getfixturevalue("postgres_url")
    template: str = request.getfixturevalue("postgres_template")
    name = f"catalog{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    return Catalog(engine)
