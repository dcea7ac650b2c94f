"""The life of a guest under the real libvirt, with a guest that only reads its disk."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.engine.errors import HostUnavailable, StateRefused
from tasks.engine.guests import domain
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.domain_xml import DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.screenshot import PNG_SIGNATURE, screenshot_png


@pytest.mark.server
def test_unreachable_libvirt_is_unavailable(tmp_path: Path):
    with pytest.raises(HostUnavailable) as failure:
        domain.domains(Hypervisor(f"qemu:///system?socket={tmp_path / 'absent'}"))
    assert failure.value.code == "host.libvirt"


@pytest.mark.server
def test_unknown_guest_is_absent_and_may_be_stopped_and_deleted(hypervisor: Hypervisor):
    unknown = uuid4()
    assert domain.state(hypervisor, unknown) is DomainState.ABSENT
    assert domain.stop(hypervisor, unknown) == "off"
    domain.delete(hypervisor, unknown)
    with pytest.raises(StateRefused, match="has no domain"):
        hypervisor.domain(unknown)


@pytest.mark.guest
def test_guest_lives_from_start_to_delete(hypervisor: Hypervisor, reader_spec: DomainSpec, ecs_id: UUID):
    for _ in range(2):
        domain.start(hypervisor, reader_spec)
        assert domain.domains(hypervisor)[ecs_id] is DomainState.RUNNING
    assert domain.stop(hypervisor, ecs_id, grace_seconds=0.5) == "destroyed"
    assert domain.domains(hypervisor)[ecs_id] is DomainState.STOPPED
    domain.start(hypervisor, reader_spec)
    domain.delete(hypervisor, ecs_id)
    assert ecs_id not in domain.domains(hypervisor)


@pytest.mark.guest
def test_running_guest_has_a_picture(hypervisor: Hypervisor, reader_spec: DomainSpec, ecs_id: UUID):
    domain.start(hypervisor, reader_spec)
    assert screenshot_png(hypervisor.domain(ecs_id)).startswith(PNG_SIGNATURE)


@pytest.mark.guest
def test_picture_of_a_stopped_guest_is_unavailable(hypervisor: Hypervisor, reader_spec: DomainSpec, ecs_id: UUID):
    domain.start(hypervisor, reader_spec)
    domain.stop(hypervisor, ecs_id, grace_seconds=0)
    with pytest.raises(HostUnavailable, match="screenshot"):
        screenshot_png(hypervisor.domain(ecs_id))


@pytest.mark.guest
def test_silent_guest_is_not_ready_in_time(hypervisor: Hypervisor, reader_spec: DomainSpec, ecs_id: UUID):
    domain.start(hypervisor, reader_spec)
    assert wait_ready(hypervisor, ecs_id, console=reader_spec.console, timeout_seconds=1).by == "none"


@pytest.mark.guest
def test_guest_that_ended_is_not_waited_for(hypervisor: Hypervisor, reader_spec: DomainSpec, ecs_id: UUID):
    domain.start(hypervisor, reader_spec)
    domain.stop(hypervisor, ecs_id, grace_seconds=0)
    with pytest.raises(HostUnavailable, match="ended before it was ready"):
        wait_ready(hypervisor, ecs_id, console=reader_spec.console, timeout_seconds=60)
