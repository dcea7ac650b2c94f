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


def thaw(domain: Any, *, patience_seconds: float = THAW_SECONDS) -> bool:
    """Let go; True once the agent says that nothing is frozen any more, also where nothing ever was."""
    deadline = time.monotonic() + patience_seconds
    while True:
        left = max(1, round(deadline - time.monotonic()))
        if _answers_thaw(domain, left) and ask(domain, "guest-fsfreeze-status", timeout_seconds=left) == "thawed":
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)


def _answers_thaw(domain: Any, timeout_seconds: int) -> bool:
    """Ask for it; False where the agent is silent, for which libvirt alone waits five seconds before it passes anything on."""
    try:
        call(domain, "guest-fsfreeze-thaw", timeout_seconds=timeout_seconds)
    except AgentRefused:
        return True
    except AgentSilent:
        return False
    return True
