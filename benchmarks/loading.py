"""load.imports and load.launches: many runs queued at once in a whole deployment of one host, with the embedded services.

All must end well, whatever the machine: a run that does not raises. The peer of a time is what the same runs take one after the
other, from one that ran alone; the peer of memory is what that one took at most (of guests: as many times); the peer of chunks
is how many there are.
IMS_BENCH_IMPORTS and IMS_BENCH_LAUNCHES say how many runs, 200 and 20 unless set.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.deployment import ask_prefect, deployment, fresh_home, hand_over, until
from benchmarks.footprints import GUESTS, footprints
from benchmarks.imports import Bench
from benchmarks.results import Result
from deployments.sample_guest import build, fetch
from deployments.sample_guest.packages import default_folder
from tasks.disks import stored_disk
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.serving.counters import HostCounters, read_counters

SHARED_CHUNKS = 16
ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
RUN_SECONDS = 120.0
"""How long each run may take of the whole, on average, before the measurement gives up."""
BOOT_SECONDS = "3600"
FILL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds until the last has ended, and the most memory of each service in MB."""

    seconds: float
    memory: dict[str, float]


def imports(_bench: Bench) -> Iterator[Result]:
    """Small disks, half of whose chunks they share, queued at once."""
    count = int(os.environ.get("IMS_BENCH_IMPORTS", "200"))
    with fresh_home() as home, deployment(home):
        disks = [_make_disk(home / f"disk-{number}.raw", number) for number in range(count + 2)]
        wanted = [_import(disk, verify="none") for disk in disks]
        _run(home, "import-image", wanted[:1])  # the first one makes the bucket's volumes and the caches of the worker
        alone = _run(home, "import-image", wanted[1:2])
        yield from _compared("load.imports", _run(home, "import-image", wanted[2:]), alone, count)


def launches(_bench: Bench) -> Iterator[Result]:
    """ECSs from one image at once, each until its guest is ready; the smallest flavor."""
    count = int(os.environ.get("IMS_BENCH_LAUNCHES", "20"))
    packages = default_folder()  # it is another one in a home of its own
    fetch(packages)
    with fresh_home() as home, deployment(home, IMS_BOOT_TIMEOUT_SECONDS=BOOT_SECONDS):
        disk = build(home / "guest.raw", packages=packages)
        disk.chmod(0o644)
        _run(home, "import-image", [_import(disk, verify="none")])
        image = _image()
        wanted = [{"image": image["id"], "name": f"ecs-{number}", "flavor": "tiny"} for number in range(count + 1)]
        # Together first: the cache is empty, and whoever needs a chunk meets the others who do.
        together = _run(home, "launch-ecs", wanted[:count])
        yield Result("load.launches.fetched", _fetched(home), _chunks(image), "chunks", count)
        _run(home, "delete-ecs", [{"ecs": each["name"]} for each in wanted[:count]])
        alone = _run(home, "launch-ecs", wanted[count:])
        yield from _compared("load.launches", together, alone, count)


def _compared(name: str, many: Load, one: Load, count: int) -> Iterator[Result]:
    yield Result(name, many.seconds, one.seconds * count, "s", count)
    for service in sorted(many.memory):
        alone = one.memory.get(service, 0.0) * (count if service == GUESTS else 1)
        yield Result(f"{name}.memory.{service}", many.memory[service], alone, "MB", count)


def _run(home: Path, flow: str, wanted: Sequence[dict[str, Any]]) -> Load:
    """Queue them all, wait for all. Raises RuntimeError where one did not complete."""
    with footprints(home) as memory:
        began = time.monotonic()
        runs = [hand_over(flow, each) for each in wanted]
        states: dict[str, str] = {}
        if not until(lambda: _all_ended(runs, states), seconds=300 + RUN_SECONDS * len(runs), pause=1):
            raise RuntimeError(f"{flow}: {len(runs) - len(states)} of {len(runs)} runs have not ended")
        seconds = time.monotonic() - began
    bad = {run: state for run, state in states.items() if state != "COMPLETED"}
    if bad:
        raise RuntimeError(f"{flow}: {len(bad)} of {len(runs)} runs did not complete: {bad}")
    return Load(seconds, dict(memory))


def _all_ended(runs: Sequence[str], states: dict[str, str]) -> bool:
    left = [run for run in runs if run not in states][:200]
    body: dict[str, object] = {"flow_runs": {"id": {"any_": left}}, "limit": 200}
    for found in ask_prefect("/flow_runs/filter", body) or []:
        if found["state_type"] in ENDED:
            states[found["id"]] = found["state_type"]
    return len(states) == len(runs)


def _make_disk(path: Path, number: int) -> Path:
    """2 to 4 chunks, of which the even ones are shared with others."""
    drawn = random.Random(number)
    with path.open("wb") as file:
        for place in range(2 + number % 3):
            source = drawn if place % 2 else random.Random(f"shared {drawn.randrange(SHARED_CHUNKS)}")
            file.write(source.randbytes(CHUNK_SIZE))
    return path


def _import(disk: Path, *, verify: str) -> dict[str, Any]:
    return {"source": str(disk), "name": disk.stem, "format": "raw", "verify": verify}


def _image() -> dict[str, Any]:
    """The only image there is."""
    from sqlmodel import select

    from models.tables import Image
    from tasks.resources import catalog

    with catalog() as session:
        image = session.exec(select(Image)).one()
        return {"id": image.id, "digest": image.disks[0].digest}


def _chunks(image: dict[str, Any]) -> int:
    """How many different ones the image has."""
    manifest, _ = stored_disk(ManifestDigest(image["digest"]))
    return len({digest for _, digest in manifest.entries()})


def _fetched(home: Path) -> int:
    """How many this host has fetched when the filling in the background is over: nothing comes any more."""
    last, deadline = -1, time.monotonic() + FILL_SECONDS
    while (now := _counters(home).fetched_chunks) != last and time.monotonic() < deadline:
        last = now
        time.sleep(5)
    return now


def _counters(home: Path) -> HostCounters:
    found = read_counters(home / "run")
    if found is None:
        raise RuntimeError("the NBD server keeps no counters")
    return found
