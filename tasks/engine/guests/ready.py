"""Waiting until a guest is of use: its agent answers, or its console asks for a login."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.agent import ping
from tasks.engine.guests.console import MAX_TAIL, console_tail, shows_login
from tasks.engine.guests.domain import DomainState, state
from tasks.engine.guests.hypervisor import Hypervisor

AGENT_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Ready:
    """Who said that the guest is up, and how long it took from the call on; `none` where nobody did in time."""

    by: Literal["agent", "login", "none"]
    seconds: float


def wait_ready(hypervisor: Hypervisor, ecs_id: UUID, *, console: Path, timeout_seconds: float) -> Ready:
    """Watch until the agent answers; a login prompt counts as well, after a few seconds' grace for the agent.

    Raises HostUnavailable when the guest ends or is stopped by an I/O error meanwhile.
    """
    began = time.monotonic()
    login_at: float | None = None
    while (elapsed := time.monotonic() - began) < timeout_seconds:
        _must_run(state(hypervisor, ecs_id), ecs_id)
        if ping(hypervisor.domain(ecs_id)):
            return Ready("agent", time.monotonic() - began)
        if login_at is None and shows_login(console_tail(console, max_bytes=MAX_TAIL)):
            login_at = elapsed
        if login_at is not None and elapsed - login_at > AGENT_GRACE_SECONDS:
            return Ready("login", login_at)
        time.sleep(_POLL_SECONDS)
    return Ready("none", time.monotonic() - began) if login_at is None else Ready("login", login_at)


def _must_run(seen: DomainState, ecs_id: UUID) -> None:
    if seen is DomainState.IO_ERROR:
        raise HostUnavailable("backing", f"guest {ecs_id} was stopped by an I/O error of its disk",
                              remedy="Is the host's NBD server up and its disk not full?")  # fmt: skip
    if seen not in (DomainState.RUNNING, DomainState.PAUSED):
        raise HostUnavailable("guest_ended", f"guest {ecs_id} ended before it was ready (now {seen})",
                              remedy="Its console log says why.")  # fmt: skip
