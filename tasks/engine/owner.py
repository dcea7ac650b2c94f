"""A process as others can recognise it: its number, and when it started, which tells it from a later one of the same number."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this host; `started` is field 22 of /proc/PID/stat."""

    pid: int
    started: str

    @property
    def runs(self) -> bool:
        """Whether it still does."""
        return _start_time(self.pid) == self.started


def this_process() -> Process:
    """The one that asks."""
    return Process(os.getpid(), _start_time(os.getpid()) or "")


def _start_time(pid: int) -> str | None:
    """None for a process that is gone, or has ended and only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
