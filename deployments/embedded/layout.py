"""The folders under IMS_HOME and who may enter them; what is inside belongs to the parts that write it.

QEMU runs as a user of its own under root's libvirt. It must reach one ECS folder or socket by its path, so the way there is
0711 (enter, not list); everything else is 0700, every file with a secret 0600.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tasks.engine.errors import RequestRefused

MODES = {
    "": 0o711,
    "ecs": 0o711,
    "run": 0o711,
    "scratch": 0o711,
    "cache": 0o700,
    "logs": 0o700,
    "prefect": 0o700,
    "s3": 0o700,
    "tmp": 0o711,
}

LONGEST_HOME = 80
"""A unix socket's path has at most 107 bytes, and this leaves room for the names below."""


def make_folders(home: Path) -> None:
    """Make IMS_HOME and its folders. Raises RequestRefused where it cannot serve: too long, another user's, closed to QEMU."""
    if len(os.fsencode(home)) > LONGEST_HOME:
        raise RequestRefused(
            "home", f"the path {home} is too long for the sockets below it", remedy=f"Use at most {LONGEST_HOME} bytes."
        )
    home.mkdir(parents=True, exist_ok=True)
    require_owner(home)
    for name, mode in MODES.items():
        folder = home / name
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    if os.geteuid() == 0:
        _require_way_in(home)


def require_owner(home: Path) -> None:
    """Refuse a home of another user: its processes could not be told apart or stopped."""
    if home.exists() and home.stat().st_uid != os.geteuid():
        raise RequestRefused(
            "home", f"{home} belongs to another user", remedy="Set IMS_HOME to a folder of yours, or run as its owner."
        )


def _require_way_in(home: Path) -> None:
    for folder in home.resolve().parents:
        if not folder.stat().st_mode & 0o001:
            raise RequestRefused(
                "home",
                f"QEMU's user cannot enter {folder}, on the way to {home}",
                remedy=f"Set IMS_HOME to another folder, or run `chmod o+x {folder}`.",
            )


def write_secret(path: Path, text: str) -> None:
    """Replace a file in one step; it is never readable by others, not even while it is written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
