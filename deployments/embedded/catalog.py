"""Makes the catalog ready: newest schema, account `admin` with a key that this home knows, this host. Tables: `models`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session

from deployments.embedded import environment
from deployments.embedded.layout import write_secret
from models.accounts import create_account, list_accounts
from models.database import migrate, open_engine, session_scope
from models.exceptions import CatalogError, NotAuthenticated
from models.hosts import NewHost, Report, ensure_host, record_report
from models.keys import authenticate, rotate_key
from models.trail import Actor
from tasks.engine.condition import look
from tasks.engine.settings import Settings
from tasks.resources import translate

ADMIN = "admin"
API_KEY = "IMS_API_KEY"


def prepare(settings: Settings) -> None:
    """Migrate, add this host, make account `admin` where there is none: its key goes to IMS_HOME/admin.key and settings.env."""
    engine = open_engine(settings.catalog_url)
    try:
        migrate(engine)
        with session_scope(engine, write=True) as session:
            _ensure_admin(session, settings.home, engine)
            _ensure_host(session, settings)
    except CatalogError as error:
        raise translate(error) from error
    finally:
        engine.dispose()


def _ensure_admin(session: Session, home: Path, engine: Engine) -> None:
    if ADMIN not in {account.name for account in list_accounts(session)}:
        _remember_key(home, create_account(session, name=ADMIN, by=Actor(ADMIN), operator=True, reviewer=True).api_key)
    elif engine.dialect.name == "sqlite" and not _key_proves(session, home):
        # This home's own catalog, and nobody has the key. A shared database may have it on another host.
        _remember_key(home, rotate_key(session, name=ADMIN, by=Actor(ADMIN)))


def _ensure_host(session: Session, settings: Settings) -> None:
    """This machine runs guests from now on, and says so; one that was removed is added again."""
    new = NewHost(name=settings.host, uri=settings.libvirt_uri, pool=settings.work_pool)
    ensure_host(session, new=new, by=Actor(ADMIN))
    record_report(session, name=settings.host, report=Report(**asdict(look(settings))))


def _key_proves(session: Session, home: Path) -> bool:
    try:
        authenticate(session, name=ADMIN, key=environment.read(home).get(API_KEY, ""))
    except NotAuthenticated:
        return False
    return True


def _remember_key(home: Path, key: str) -> None:
    """Before the transaction commits: a key that proves nothing yet does less harm than an account whose key nobody has."""
    write_secret(home / "admin.key", key + "\n")
    environment.remember(home, {API_KEY: key})
