"""The counters of a host's NBD server in a file beside its socket: written by the server, read by whoever may read the folder.

They count from `started` on: a server that was started again begins at zero, as counters of a process do. The file stays when
the server ends, so what it says then is the last that was known.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

NAME = "nbd-stats.json"


class HostCounters(BaseModel):
    """Chunks and raw bytes; `read` what was read of each disk, by manifest digest; `started` is seconds since the epoch."""

    fetched_chunks: int
    fetched_bytes: int
    filled_chunks: int
    hits: int
    failures: int
    cache_bytes: int
    cache_capacity: int
    read: dict[str, int]
    started: float


def write_counters(folder: Path, text: str) -> None:
    """Replace the file in one step."""
    draft = folder / f"{NAME}.part"
    draft.write_text(text)
    draft.rename(folder / NAME)


def read_counters(folder: Path) -> HostCounters | None:
    """What the server last said; None where there never was one, or one of another release."""
    try:
        return HostCounters.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError):
        return None
