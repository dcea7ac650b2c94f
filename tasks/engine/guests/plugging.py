"""Disks that come to a guest after its launch: plugged in while it runs, and in its definition from then on."""

from __future__ import annotations

from uuid import UUID

import libvirt

from tasks.engine.guests.checkpoints import disk_targets
from tasks.engine.guests.domain import DomainState, state
from tasks.engine.guests.domain_xml import DiskSpec, disk_xml, target_name
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls


def plug(hypervisor: Hypervisor, ecs_id: UUID, disk: DiskSpec, *, index: int) -> None:
    """Give the running guest its disk `index`; nothing happens where it has it. One that is off gets it at its next start."""
    if state(hypervisor, ecs_id) is not DomainState.RUNNING or plugged(hypervisor, ecs_id, index=index):
        return
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with libvirt_calls("plugging in a disk"):
        hypervisor.domain(ecs_id).attachDeviceFlags(disk_xml(disk, index=index), flags)


def plugged(hypervisor: Hypervisor, ecs_id: UUID, *, index: int) -> bool:
    """Whether the guest has its disk `index`."""
    domain = hypervisor.find(ecs_id)
    return domain is not None and target_name(index) in disk_targets(domain)
