"""Bringing back guests that the absence of their NBD server stopped; whoever restarts that server calls this.

QEMU reconnects only by failing once more: the first resumed request pauses the guest again, so resuming is repeated
until it lasts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from tasks.engine.guests.domain import DomainState, domains, state
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls

ATTEMPTS = 8
SETTLE_SECONDS = 2.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Resumed:
    """A guest that an I/O error had paused, and whether it stays running now."""

    ecs_id: UUID
    running: bool


def resume_paused(uri: str) -> list[Resumed]:
    """Resume every ECS of the host at `uri` that an I/O error paused; others are not touched."""
    with Hypervisor(uri) as hypervisor:
        paused = [ecs_id for ecs_id, seen in domains(hypervisor).items() if seen is DomainState.IO_ERROR]
        return [Resumed(ecs_id, _resume(hypervisor, ecs_id)) for ecs_id in paused]


def _resume(hypervisor: Hypervisor, ecs_id: UUID) -> bool:
    for _ in range(ATTEMPTS):
        if state(hypervisor, ecs_id) is DomainState.IO_ERROR:
            with libvirt_calls("resuming a guest"):
                hypervisor.domain(ecs_id).resume()
        if _stays_running(hypervisor, ecs_id):
            return True
    return False


def _stays_running(hypervisor: Hypervisor, ecs_id: UUID) -> bool:
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        if state(hypervisor, ecs_id) is not DomainState.RUNNING:
            return False
        time.sleep(_POLL_SECONDS)
    return True
