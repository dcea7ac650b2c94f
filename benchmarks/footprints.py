"""How much memory the services and the guests of a deployment take while something happens: the most of each."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.embedded.processes import TOKEN_VARIABLE
from deployments.embedded.services import read_record

SERVICES = ("s3", "prefect", "worker", "agent", "watcher", "inbox")
EVERY_SECONDS = 1.0
GUESTS = "guests"


@contextmanager
def footprints(home: Path) -> Iterator[dict[str, float]]:
    """Peaks in MB by service, its children counted, and of all guests; pages that processes share are counted once.

    They are whole when the block has ended.
    """
    peaks: dict[str, float] = defaultdict(float)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_SECONDS):
            for name, value in _now(home).items():
                peaks[name] = max(peaks[name], value)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _now(home: Path) -> dict[str, float]:
    records = {name: read_record(home, name) for name in SERVICES}
    tokens = {f"{TOKEN_VARIABLE}={record.token}".encode(): name for name, record in records.items() if record}
    sums: dict[str, float] = defaultdict(float)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "environ").read_bytes().split(b"\0")
                names = {tokens[word] for word in words if word in tokens}
                if f"{home}/ecs/".encode() in Path(entry.path, "cmdline").read_bytes() and not names:
                    names.add(GUESTS)
                for name in names:
                    sums[name] += _proportional(Path(entry.path))
            except OSError:  # it has ended
                continue
    return sums


def _proportional(process: Path) -> float:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6
