"""compose.yaml as a program reads it: the services, with ${NAME} replaced as Compose does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from deployments import __file__ as package

FOLDER = Path(package).parent
COMPOSE = FOLDER / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(:-[^}]*)?\}")


def services() -> dict[str, dict[str, Any]]:
    """Each service, its anchors and merges resolved."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return dict(content["services"])


def filled(value: Any, known: dict[str, str]) -> Any:
    """The value with every ${NAME} replaced; KeyError where nothing is known of it and it has no default."""
    if isinstance(value, dict):
        return {key: filled(it, known) for key, it in value.items()}
    if isinstance(value, list):
        return [filled(it, known) for it in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: known[found[1]] if found[2] is None else known.get(found[1], found[2][2:]), value)


def read_env(path: Path) -> dict[str, str]:
    """What a file of NAME=VALUE lines says."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
