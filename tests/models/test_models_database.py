"""Engines, sessions and migrations, on both databases."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from catalog_rows import Catalog
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models.accounts import create_account, list_accounts
from models.database import migrate, open_engine, session_scope
from models.exceptions import CatalogUnreachable, FieldInvalid, NameInvalid
from models.flavors import get_flavor, list_flavors
from models.images import own_image
from models.tables import Image, Row
from models.trail import Actor

MIGRATE = "import sys; from models.database import *; engine = open_engine(sys.argv[1]); migrate(engine); engine.dispose()"


def test_migrations_give_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Row.metadata) == []


def test_migrate_twice_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with session_scope(engine) as session:
        assert [flavor.name for flavor in list_flavors(session)] == ["tiny", "small", "medium", "large", "xlarge"]


def test_migrate_in_four_processes_at_once(empty_url: str) -> None:
    command = [sys.executable, "-c", MIGRATE, empty_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    engine = open_engine(empty_url)
    with session_scope(engine) as session:
        assert get_flavor(session, name="small").memory_mib == 1024
    engine.dispose()


def test_read_of_a_query_that_locks_waits_for_nobody(catalog: Catalog) -> None:
    """PostgreSQL refuses row locks to a read-only transaction; whoever writes at that moment is not waited for either."""
    with catalog.write() as session:
        image = catalog.active(session)
    with catalog.write() as writer, catalog.read() as reader:
        own_image(writer, account="alice", image_id=image.id)
        assert own_image(reader, account="alice", image_id=image.id).name == image.name


def test_downgrade_leaves_nothing(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "models:migrations")
    with session_scope(engine, write=True) as session:
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "base")
    with pytest.raises(CatalogUnreachable, match="ims up"), session_scope(engine) as session:
        list_accounts(session)


def test_database_never_migrated_is_unreachable(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with pytest.raises(CatalogUnreachable, match="ims up"), session_scope(engine) as session:
        list_accounts(session)
    engine.dispose()


@pytest.mark.parametrize("address", ["postgresql://u:secret@127.0.0.1:1/ims", "postgresql+psycopg://u:secret@127.0.0.1:1/ims"])
def test_server_that_does_not_listen_is_unreachable(address: str) -> None:
    engine = open_engine(address)
    with pytest.raises(CatalogUnreachable) as caught, session_scope(engine, write=True):
        pass
    assert "secret" not in str(caught.value)


def test_reading_a_missing_file_does_not_create_it(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(CatalogUnreachable), session_scope(engine):
        pass
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_database_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 100)
    engine = open_engine(f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(CatalogUnreachable), session_scope(engine) as session:
        list_accounts(session)
    engine.dispose()


def test_folder_that_cannot_be_made_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogUnreachable):
        migrate(open_engine(f"sqlite:///{tmp_path}/file/catalog.db"))


@pytest.mark.parametrize("address", ["", "nonsense", "mysql://localhost/ims", "sqlite://", "sqlite:///:memory:"])
def test_address_of_another_database_is_invalid(address: str) -> None:
    with pytest.raises(FieldInvalid):
        open_engine(address)


def test_new_file_is_private_and_in_wal_mode(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/home/catalog.db")
    migrate(engine)
    with session_scope(engine) as session:
        pragmas = [session.connection().execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "foreign_keys")]
    engine.dispose()
    assert pragmas == ["wal", 1]
    assert stat.S_IMODE((tmp_path / "home/catalog.db").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "home").glob(".*")] == []


def test_reading_session_cannot_write(catalog: Catalog) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"), catalog.read() as session:
        create_account(session, name="eve", by=Actor("admin"))


def test_failed_session_leaves_nothing(catalog: Catalog) -> None:
    with pytest.raises(NameInvalid), catalog.write() as session:
        catalog.building(session, catalog.active(session), name="?")
    with catalog.read() as session:
        assert catalog.count(session, Image) == 0


def test_unknown_account_breaks_the_foreign_key(catalog: Catalog) -> None:
    with pytest.raises(DBAPIError, match=r"(?i)foreign key"), catalog.write() as session:
        session.add(Image(owner="nobody", name="web"))


def test_times_come_back_aware_and_utc(catalog: Catalog) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))
    with catalog.write() as session:
        image = catalog.queued(session)
        image.deprecated_at = noon
    with catalog.read() as session:
        found = session.get_one(Image, image.id).deprecated_at
    assert found == noon
    assert found.tzinfo is UTC


def test_rows_are_readable_after_their_session(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
    assert image.disks[0].digest == "a" * 64


def test_catalog_import_loads_no_slow_neighbour() -> None:
    check = (
        "import sys, models.database, models.images, models.ecs, models.operations;"
        "print({'alembic', 'psycopg', 'prefect', 'hypothesis', 'mako'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "set()"
