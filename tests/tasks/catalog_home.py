"""A home with a catalog and no services, for steps and reads that need no more. How it is made is in conftest.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from catalog_rows import Catalog

from tasks.engine.settings import load_settings
from tasks.resources import _engine


@dataclass(frozen=True)
class Home:
    """IMS_HOME with a catalog of `admin`, an operator who asks, and `alice`; `keys` are their API keys."""

    path: Path
    keys: dict[str, str]

    @property
    def rows(self) -> Catalog:
        """The shortest way to rows in it; its accounts are there already."""
        found = object.__new__(Catalog)
        found.engine = _engine(load_settings().catalog_url)
        return found
