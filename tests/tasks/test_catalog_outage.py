"""A PostgreSQL that goes away for seconds: steps say unavailable, which is what is tried again, and go on when it is back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.postgres_server import PostgresServer, run_server
from models.accounts import create_account, list_accounts
from models.database import migrate, open_engine
from models.trail import Actor
from tasks.engine.errors import CatalogUnavailable, Unavailable
from tasks.resources import _engine, catalog

pytestmark = pytest.mark.server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """The catalog of this test, migrated."""
    with run_server() as running:
        monkeypatch.setenv("IMS_DATABASE_URL", running.url)
        engine = open_engine(running.url)
        migrate(engine)
        engine.dispose()
        yield running
        _engine(running.url).dispose()


def names() -> set[str]:
    with catalog() as session:
        return {account.name for account in list_accounts(session)}


def add(name: str) -> None:
    with catalog(write=True) as session:
        create_account(session, name=name, by=Actor("admin"))


def test_step_during_an_outage_is_unavailable_and_goes_on_after_it(server: PostgresServer) -> None:
    add("before")
    server.stop()
    for step in (names, lambda: add("during")):
        with pytest.raises(CatalogUnavailable) as caught:
            step()
        assert isinstance(caught.value, Unavailable)
    server.start()
    add("after")
    assert names() == {"before", "after"}


def test_transaction_that_an_outage_cuts_off_is_unavailable_and_leaves_nothing(server: PostgresServer) -> None:
    def cut_off() -> None:
        with catalog(write=True) as session:
            create_account(session, name="half", by=Actor("admin"))
            session.flush()
            server.stop()

    with pytest.raises(CatalogUnavailable):
        cut_off()
    server.start()
    assert names() == set()
