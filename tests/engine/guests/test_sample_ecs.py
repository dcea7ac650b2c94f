"""A whole ECS under libvirt: the sample guest over an NBD export, told who it is by its seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.engine.guests import domain
from tasks.engine.guests.agent import os_facts
from tasks.engine.guests.backing import FileBacking
from tasks.engine.guests.console import console_tail
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import EcsFiles, create_overlay
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.seed import Seed, write_seed

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHm0sHRbFOjGJqKDmdKJvWGYTxXmQ0lAuVzMhB9sW0uN ann@home"


@pytest.fixture
def spec(folder: Path, serve: Callable[[FileBacking], Any], sample: FileBacking, ecs_id: UUID) -> DomainSpec:
    files = EcsFiles(folder)
    backing = serve(sample).backing
    write_seed(files.seed, Seed(instance_id=ecs_id, hostname="web-1", ssh_keys=[KEY]))
    create_overlay(files.overlay(0), backing=backing, virtual_size=sample.virtual_size)
    disks = [DiskSpec(overlay=files.overlay(0), backing=backing)]
    return DomainSpec(ecs_id=ecs_id, disks=disks, console=files.console, seed=files.seed, kvm=False, memory_mib=512)


@pytest.mark.guest
def test_ecs_boots_configures_itself_and_shuts_down_when_asked(hypervisor: Hypervisor, spec: DomainSpec, ecs_id: UUID):
    domain.start(hypervisor, spec)
    ready = wait_ready(hypervisor, ecs_id, console=spec.console, timeout_seconds=240)
    assert ready.by == "agent"
    assert os_facts(hypervisor.domain(ecs_id)).version == "12"
    assert domain.stop(hypervisor, ecs_id, grace_seconds=120) == "shutdown"
    assert "host name web-1, 1 ssh keys" in console_tail(spec.console)
