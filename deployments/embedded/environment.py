"""IMS_HOME/settings.env: what `ims up` chose and every other process reads (`tasks.engine.settings`), mode 0600.

Lines that somebody else wrote there stay.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dotenv import dotenv_values

from deployments.embedded.layout import write_secret

NAME = "settings.env"
HEADER = "# Written by `ims up`; lines of your own are kept. Holds secrets: leave it at mode 0600.\n"


def read(home: Path) -> dict[str, str]:
    path = home / NAME
    return {name: value or "" for name, value in dotenv_values(path).items()} if path.exists() else {}


def remember(home: Path, values: dict[str, str]) -> None:
    """Set these and keep the rest; an unchanged file is left alone."""
    present = read(home)
    wanted = present | values
    if wanted == present:
        return
    path = home / NAME
    lines = path.read_text().splitlines(keepends=True) if path.exists() else [HEADER]
    kept = [line for line in lines if line.partition("=")[0].strip() not in values]
    write_secret(path, "".join(kept) + "".join(f"{name}={value}\n" for name, value in values.items()))


def remembered_secret(home: Path, name: str) -> str:
    """The secret under this name: from the environment, from settings.env, or a new one, written down at once."""
    value = os.environ.get(name) or read(home).get(name)
    if not value:
        value = secrets.token_urlsafe(32)
        remember(home, {name: value})
    return value
