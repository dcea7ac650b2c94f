"""Pulling a running guest's base disks into its overlays, so that it needs nothing but its own files (`--standalone`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID
from xml.etree.ElementTree import Element

import libvirt
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it ships no type information

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls

Progress = Callable[[int, int], None]
_POLL_SECONDS = 0.25


def make_standalone(hypervisor: Hypervisor, ecs_id: UUID, *, progress: Progress, timeout_seconds: float) -> None:
    """Pull every base into its overlay; `progress` gets bytes done and total of the disk at hand. May be repeated.

    Afterwards libvirt names no backing file any more, neither for the running guest nor for its next start.
    """
    domain = hypervisor.domain(ecs_id)
    deadline = time.monotonic() + timeout_seconds
    for target in dict.fromkeys(_targets_with_base(domain)):
        with libvirt_calls(f"pulling the base of {target}"):
            if not domain.blockJobInfo(target, 0):
                domain.blockPull(target, 0, 0)
        _wait(domain, target, progress=progress, deadline=deadline)
    if left := sorted(set(_targets_with_base(domain))):
        raise HostUnavailable("block_pull", f"the base of {', '.join(left)} could not be pulled into its overlay",
                              remedy="Is the host's NBD server up and its disk not full?")  # fmt: skip


def _wait(domain: Any, target: str, *, progress: Progress, deadline: float) -> None:
    """Until the job is gone; one that runs out of time is left running, for a repeated call to find."""
    while True:
        with libvirt_calls(f"watching the pull of {target}"):
            job = domain.blockJobInfo(target, 0)
        if not job:
            return
        progress(job["cur"], job["end"])
        if time.monotonic() > deadline:
            raise HostUnavailable("block_pull", f"the base of {target} is still being pulled", remedy="Wait for it.")
        time.sleep(_POLL_SECONDS)


def _targets_with_base(domain: Any) -> Iterator[str]:
    """Disks that still lie on a base, in the running guest or in its definition."""
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        with libvirt_calls("reading a guest's disks"):
            root: Element = fromstring(domain.XMLDesc(flags))
        for disk in root.iterfind("devices/disk[@device='disk']"):
            target = disk.find("target")
            if target is not None and disk.find("backingStore/source") is not None:
                yield target.get("dev", "")
