"""The life of an ECS's domain: start, stop, delete, state, list. Every verb may be repeated and then changes nothing.

The XML comes from `domain_xml`, files from `overlay` and `seed`; throwaway guests are `boot_check`'s.
"""

from __future__ import annotations

import re
import time
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import libvirt

from tasks.engine.guests.checkpoints import LAUNCH, mark
from tasks.engine.guests.console import set_aside
from tasks.engine.guests.domain_xml import DomainSpec, domain_xml, target_name
from tasks.engine.guests.hypervisor import DOMAIN_PREFIX, Hypervisor, libvirt_calls

_ECS_DOMAIN = re.compile(re.escape(DOMAIN_PREFIX) + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_POLL_SECONDS = 0.25


class DomainState(StrEnum):
    """What libvirt says of a domain; `io_error` is the pause that a lost backing server causes."""

    ABSENT = "absent"
    RUNNING = "running"
    PAUSED = "paused"
    IO_ERROR = "io_error"
    STOPPED = "stopped"
    CRASHED = "crashed"


def start(hypervisor: Hypervisor, spec: DomainSpec) -> None:
    """Define and start the guest; one that is active already is left alone, a stopped one gets the definition anew."""
    if state(hypervisor, spec.ecs_id) in (DomainState.RUNNING, DomainState.PAUSED, DomainState.IO_ERROR):
        return
    set_aside(spec.console)
    with libvirt_calls("starting a guest"):
        hypervisor.connection.defineXML(domain_xml(spec)).create()


def launch(hypervisor: Hypervisor, spec: DomainSpec) -> None:
    """Start the guest for the first time, over disks that nothing was written to: its changes are noted from its first
    instruction on. Not to be repeated over the same disks: what a guest wrote before would not be noted."""
    set_aside(spec.console)
    with libvirt_calls("starting a guest"):
        domain = hypervisor.connection.defineXML(domain_xml(spec))
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    mark(domain, LAUNCH, [target_name(index) for index in range(len(spec.disks))])
    with libvirt_calls("starting a guest"):
        domain.resume()


def stop(hypervisor: Hypervisor, ecs_id: UUID, *, grace_seconds: float = 60) -> Literal["off", "shutdown", "destroyed"]:
    """Ask the guest by ACPI to shut down, then cut its power; says which of them it took."""
    domain = hypervisor.find(ecs_id)
    if domain is None or not _active(domain):
        return "off"
    if _state_of(domain) is DomainState.RUNNING and _shut_down(domain, grace_seconds):
        return "shutdown"
    _destroy(domain)
    return "destroyed"


def delete(hypervisor: Hypervisor, ecs_id: UUID) -> None:
    """End the guest at once and forget its definition, checkpoints and firmware variables; its files stay."""
    domain = hypervisor.find(ecs_id)
    if domain is None:
        return
    _destroy(domain)
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    flags |= libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    with libvirt_calls("deleting a guest"):
        domain.undefineFlags(flags)


def state(hypervisor: Hypervisor, ecs_id: UUID) -> DomainState:
    """The state of one ECS's domain."""
    domain = hypervisor.find(ecs_id)
    return DomainState.ABSENT if domain is None else _state_of(domain)


def domains(hypervisor: Hypervisor) -> dict[UUID, DomainState]:
    """Every domain of this service on the host, throwaway guests left out."""
    with libvirt_calls("listing guests"):
        found = {_ECS_DOMAIN.fullmatch(domain.name()): domain for domain in hypervisor.connection.listAllDomains()}
    return {UUID(match[1]): _state_of(domain) for match, domain in found.items() if match}


def _state_of(domain: Any) -> DomainState:
    with libvirt_calls("asking for a guest's state"):
        code, reason = domain.state()
    if code == libvirt.VIR_DOMAIN_PAUSED:
        return DomainState.IO_ERROR if reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR else DomainState.PAUSED
    if code in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED):
        crashes = (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
        crashed = code == libvirt.VIR_DOMAIN_CRASHED or reason in crashes
        return DomainState.CRASHED if crashed else DomainState.STOPPED
    return DomainState.RUNNING


def _active(domain: Any) -> bool:
    with libvirt_calls("asking for a guest's state"):
        return bool(domain.isActive())


def _shut_down(domain: Any, grace_seconds: float) -> bool:
    """Press the power button and wait; a guest that never listens costs the whole grace."""
    if grace_seconds <= 0:
        return False
    with libvirt_calls("shutting a guest down"):
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    deadline = time.monotonic() + grace_seconds
    while _active(domain):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _destroy(domain: Any) -> None:
    with libvirt_calls("ending a guest"):
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                raise
