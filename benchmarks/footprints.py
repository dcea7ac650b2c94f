"""How much memory the services of a deployment take while something happens: the most of each, and of this machine in all."""

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
MACHINE = "machine"


@contextmanager
def footprints(home: Path) -> Iterator[dict[str, float]]:
    """Peaks in MB by service, its children counted, pages that processes share counted once; whole when the block has ended.

    `machine` is what less memory was available than at the beginning: guests are in it, and whatever else runs here.
    """
    peaks: dict[str, float] = defaultdict(float)
    ended, available = threading.Event(), _available()

    def watch() -> None:
        while not ended.wait(EVERY_SECONDS):
            now = _of_services(home) | {MACHINE: available - _available()}
            for name, value in now.items():
                peaks[name] = max(peaks[name], value)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _of_services(home: Path) -> dict[str, float]:
    records = {name: read_record(home, name) for name in SERVICES}
    tokens = {f"{TOKEN_VARIABLE}={record.token}".encode(): name for name, record in records.items() if record}
    sums: dict[str, float] = defaultdict(float)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "environ").read_bytes().split(b"\0")
                for name in {tokens[word] for word in words if word in tokens}:
                    sums[name] += _proportional(Path(entry.path))
            except OSError:  # it has ended
                continue
    return sums


def _proportional(process: Path) -> float:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def _available() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024 / 1e6
