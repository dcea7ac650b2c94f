"""A guest whose NBD server dies is stopped unharmed and goes on when the server is back; standalone, it needs none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests import domain
from tasks.engine.guests.backing import FileBacking
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import create_overlay
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.resume import Resumed, resume_paused
from tasks.engine.guests.standalone import make_standalone

Serve = Callable[[FileBacking], Any]


@pytest.fixture
def served(serve: Serve, reader: FileBacking, reader_spec: DomainSpec, folder: Path) -> tuple[Any, DomainSpec]:
    """The reading guest over a server, and that server."""
    server = serve(reader)
    overlay = folder / "over-nbd.qcow2"
    create_overlay(overlay, backing=server.backing, virtual_size=reader.virtual_size)
    return server, replace(reader_spec, disks=[DiskSpec(overlay=overlay, backing=server.backing)])


def wait_for(hypervisor: Hypervisor, ecs_id: UUID, wanted: DomainState) -> None:
    for _ in range(600):
        if domain.state(hypervisor, ecs_id) is wanted:
            return
        time.sleep(0.05)
    raise AssertionError(domain.state(hypervisor, ecs_id))


def wait_for_reads(hypervisor: Hypervisor, ecs_id: UUID) -> None:
    """Until the guest's firmware has come as far as its disk."""
    for _ in range(600):
        if bytes_read(hypervisor, ecs_id):
            return
        time.sleep(0.05)
    raise AssertionError("it reads nothing")


def bytes_read(hypervisor: Hypervisor, ecs_id: UUID) -> int:
    return int(hypervisor.domain(ecs_id).blockStats("vda")[1])


@pytest.mark.guest
def test_guest_survives_the_death_of_its_server(hypervisor: Hypervisor, uri: str, served: tuple[Any, DomainSpec], ecs_id: UUID):
    server, spec = served
    domain.start(hypervisor, spec)
    server.kill()
    wait_for(hypervisor, ecs_id, DomainState.IO_ERROR)
    with pytest.raises(HostUnavailable, match="stopped by an I/O error"):
        wait_ready(hypervisor, ecs_id, console=spec.console, timeout_seconds=5)
    before = bytes_read(hypervisor, ecs_id)
    server.start()
    assert Resumed(ecs_id, True) in resume_paused(uri)
    assert bytes_read(hypervisor, ecs_id) > before


@pytest.mark.guest
def test_standalone_guest_needs_no_server_any_more(hypervisor: Hypervisor, served: tuple[Any, DomainSpec], ecs_id: UUID):
    server, spec = served
    domain.start(hypervisor, spec)
    wait_for_reads(hypervisor, ecs_id)
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        make_standalone(hypervisor, ecs_id, progress=lambda *step: steps.append(step), timeout_seconds=60)
    server.kill()
    domain.stop(hypervisor, ecs_id, grace_seconds=0)
    domain.start(hypervisor, replace(spec, disks=[replace(spec.disks[0], backing=None)]))
    assert wait_ready(hypervisor, ecs_id, console=spec.console, timeout_seconds=2).by == "none"
    assert domain.state(hypervisor, ecs_id) is DomainState.RUNNING
