"""Holding a guest's file systems still for a moment, through its agent, and letting them go again.

A freeze that got no answer may still take effect later, so whoever asked for one owes a thaw until `thaw` has said True;
`watch` keeps that debt on disk and the host agent pays it when the debtor cannot.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any

from tasks.engine.guests.agent import AgentRefused, AgentSilent, ask, call, ping

FREEZE_SECONDS = 5
"""The longest a freeze may take: guests whose writes stand still for longer notice it."""
THAW_SECONDS = 5


class Freeze(StrEnum):
    """How a freeze went."""

    FROZEN = "frozen"
    NO_AGENT = "no_agent"
    REFUSED = "refused"
    SILENT = "silent"


def freeze(domain: Any, *, timeout_seconds: int = FREEZE_SECONDS) -> Freeze:
    """Ask for it. Only FROZEN and SILENT leave something to be thawed."""
    if not ping(domain):
        return Freeze.NO_AGENT
    try:
        frozen = call(domain, "guest-fsfreeze-freeze", timeout_seconds=timeout_seconds)
    except AgentRefused:
        return Freeze.REFUSED
    except AgentSilent:
        return Freeze.SILENT
    return Freeze.FROZEN if frozen else Freeze.REFUSED


def thaw(domain: Any, *, patience_seconds: float = THAW_SECONDS) -> int | None:
    """Let go. How many file systems were frozen until now, once the agent says that none is any more; None where it does not.

    0 after a freeze means that somebody else has let them go before.
    """
    deadline, released = time.monotonic() + patience_seconds, 0
    while True:
        left = max(1, round(deadline - time.monotonic()))
        count = _released(domain, left)
        released += count or 0
        if count is not None and ask(domain, "guest-fsfreeze-status", timeout_seconds=left) == "thawed":
            return released
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.2)


def _released(domain: Any, timeout_seconds: int) -> int | None:
    """Ask for it once; None where the agent is silent, for which libvirt alone waits five seconds before it passes anything
    on."""
    try:
        return int(call(domain, "guest-fsfreeze-thaw", timeout_seconds=timeout_seconds) or 0)
    except (AgentRefused, ValueError, TypeError):
        return 0
    except AgentSilent:
        return None
