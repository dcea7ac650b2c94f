"""What this host can say of itself: memory, accelerator, and the disks that its NBD server has at hand. Nothing is started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.settings import Settings

GUESTS_SHARE = 0.9
"""Of the machine's memory; the rest is for what serves the guests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Memory in MiB: for guests in all, and free now. `cached`: digests of disks that were served since the server began."""

    memory_mib: int
    available_mib: int
    accelerator: str | None
    cached: list[str]
    cache_bytes: int


def look(settings: Settings, *, meminfo: Path = Path("/proc/meminfo")) -> Condition:
    """The condition of the host that this process runs on."""
    kib = _memory(meminfo)
    stats = _json(settings.exports_socket.parent / "nbd-stats.json")
    served: dict[str, int] = stats.get("read", {})
    return Condition(
        memory_mib=settings.host_memory_mib or int(kib["MemTotal"] * GUESTS_SHARE) // 1024,
        available_mib=kib["MemAvailable"] // 1024,
        accelerator=_accelerator(settings),
        cached=[digest for digest, read in reversed(served.items()) if read > 0],
        cache_bytes=int(stats.get("cache_bytes", 0)),
    )


def _memory(path: Path) -> dict[str, int]:
    """KiB by name."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}


def _accelerator(settings: Settings) -> str | None:
    """What was set or proved; None where nothing was launched yet."""
    if settings.accelerator != "auto":
        return settings.accelerator
    answer: str | None = _json(settings.home / "accelerator.json").get("kind")
    return answer


def _json(path: Path) -> dict[str, Any]:
    """The file's object; empty where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
