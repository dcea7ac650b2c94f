"""A home with a migrated catalog, which this process's settings name for the length of a test."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalog_home import Home

from models.accounts import create_account
from models.database import migrate, open_engine
from models.trail import Actor
from tasks.engine.settings import load_settings
from tasks.resources import catalog


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("IMS_HOME", str(tmp_path))
    monkeypatch.setenv("IMS_HOST", "here")
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    engine = open_engine(load_settings().catalog_url)
    migrate(engine)
    engine.dispose()
    with catalog(write=True) as session:
        keys = {
            name: create_account(session, name=name, operator=name == "admin", by=Actor("admin")).api_key
            for name in ("admin", "alice")
        }
    monkeypatch.setenv("IMS_ACCOUNT", "admin")
    monkeypatch.setenv("IMS_API_KEY", keys["admin"])
    return Home(tmp_path, keys)
