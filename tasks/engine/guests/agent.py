"""Questions to the QEMU guest agent inside a guest; its answers are the guest's and are bounded and cleaned here.

Protocol: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html. Waiting for it is `ready`'s.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import libvirt
import libvirt_qemu

from tasks.engine.guests.domain_xml import AGENT_CHANNEL

_CONNECTED = re.compile(rf"<target type='virtio' name='{re.escape(AGENT_CHANNEL)}' state='connected'/>")


class AgentSilent(Exception):
    """No answer within the time; the agent may still carry the command out later."""


class AgentRefused(Exception):
    """The agent answered that it does not do this."""


@dataclass(frozen=True)
class AgentFacts:
    """What the agent says of the running system; empty where it does not say."""

    id: str = ""
    version: str = ""
    name: str = ""
    kernel: str = ""
    machine: str = ""


def ping(domain: Any, *, timeout_seconds: int = 2) -> bool:
    """Whether the agent answers now. Asks only when it has opened its channel, so that a guest without one costs nothing."""
    try:
        if not _CONNECTED.search(domain.XMLDesc(0)):
            return False
    except libvirt.libvirtError:
        return False
    return ask(domain, "guest-ping", timeout_seconds=timeout_seconds) is not None


def os_facts(domain: Any, *, timeout_seconds: int = 5) -> AgentFacts:
    """guest-get-osinfo, cleaned; all empty where the agent does not answer."""
    answer = ask(domain, "guest-get-osinfo", timeout_seconds=timeout_seconds)
    if not isinstance(answer, dict):
        return AgentFacts()
    keys = ("id", "version-id", "name", "kernel-release", "machine")
    return AgentFacts(*(_clean(answer.get(key)) for key in keys))


def ask(domain: Any, command: str, *, timeout_seconds: int) -> Any | None:
    """The agent's answer to a command without arguments, or None where it gives none in time."""
    try:
        return call(domain, command, timeout_seconds=timeout_seconds)
    except (AgentSilent, AgentRefused):
        return None


def call(domain: Any, command: str, *, timeout_seconds: int) -> Any:
    """The agent's answer to a command. Raises AgentSilent where none comes in time, AgentRefused where it is an error."""
    try:
        raw = libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": command}), timeout_seconds, 0)
        answer = json.loads(raw)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR:  # libvirt's wrapping of the agent's own words
            raise AgentRefused(_clean(error.get_error_message())) from error
        raise AgentSilent(_clean(error.get_error_message())) from error
    except ValueError as error:
        raise AgentRefused("its answer is no JSON") from error
    return answer.get("return") if isinstance(answer, dict) else None


def _clean(value: object) -> str:
    return "".join(char for char in str(value or "") if char.isprintable())[:128]
