"""How things are made to fail and come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.deployment import until
from benchmarks.faults.drawing import MODES, Draw, Kind
from benchmarks.faults.proxy import Mode
from benchmarks.faults.world import World, start_database
from deployments.embedded import prefect_services, processes, services, supervisor
from deployments.embedded.site import look_up
from tasks.engine.settings import load_settings

BACK_SECONDS = 120.0


@dataclass(frozen=True)
class Fault:
    """`begin` and `end` are called once each; `end` raises RuntimeError where what failed did not come back."""

    begin: Callable[[], None]
    end: Callable[[], None]


def make_fault(world: World, draw: Draw, *, kill_command: Callable[[], None] | None) -> Fault:
    """The fault of a round; `kill_command` where the operation is a command's and not the worker's."""
    if draw.kind in MODES:
        return Fault(lambda: world.proxy.switch(MODES[draw.kind]), lambda: world.proxy.switch(Mode.PASS))
    if draw.kind is Kind.DATABASE:
        return Fault(lambda: _stop_database(world, hard=draw.hard), lambda: start_database(world.database))
    if draw.kind is Kind.PREFECT:
        return Fault(lambda: _stop_prefect(world, hard=draw.hard), lambda: _start_prefect(world))
    if kill_command is not None:
        return Fault(kill_command, lambda: None)
    return Fault(lambda: _kill(world, "worker"), _await_worker)


def _stop_database(world: World, *, hard: bool) -> None:
    server = world.database
    if hard and server.process is not None:
        server.process.kill()
        server.process.wait()
        server.process = None
    else:
        server.stop()


def _stop_prefect(world: World, *, hard: bool) -> None:
    if hard:
        _kill(world, "prefect")
    else:
        services.stop(world.home, "prefect", seconds=20)


def _start_prefect(world: World) -> None:
    services.start(world.home, prefect_services.server(look_up(load_settings())))


def _kill(world: World, name: str) -> None:
    """Kill -9 a service with all that it started, such as the runs of the worker."""
    record = services.read_record(world.home, name)
    if record is None:
        raise RuntimeError(f"{name} does not run")
    for pid in processes.descendants(record.token):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _await_worker() -> None:
    """The host's watcher starts it again."""
    began = time.monotonic()
    if not until(lambda: "worker" not in supervisor.fallen(load_settings()), seconds=BACK_SECONDS):
        raise RuntimeError(f"the worker was not started again in {time.monotonic() - began:.0f} s")
