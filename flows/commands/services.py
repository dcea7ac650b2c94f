"""`ims up`, `down`, `status`. The services are `deployments.embedded`, found by name because nothing here imports upwards."""

from __future__ import annotations

import importlib
from argparse import Namespace
from typing import Any

from tasks.engine.settings import load_settings

EMBEDDED = "deployments.embedded"


def up(_: Namespace) -> dict[str, Any]:
    """Start what is not running."""
    return _do("up")


def down(_: Namespace) -> dict[str, Any]:
    """Stop what `up` started."""
    return _do("down")


def status(_: Namespace) -> dict[str, Any]:
    """What is true now; 3 where a service does not run."""
    answer = _do("status")
    running = all(service["state"] == "running" for service in answer["services"].values())
    return answer | {"exit_code": 0 if running else 3}


def _do(verb: str) -> dict[str, Any]:
    values: dict[str, Any] = getattr(importlib.import_module(EMBEDDED), verb)(load_settings()).model_dump(mode="json")
    return values
