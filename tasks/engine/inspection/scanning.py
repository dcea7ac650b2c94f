"""Scanning a system's disks for what an image for others must not hold, and for what it is made of; the disks stay as they are.

The work is done by `scan_child` in a child process that is limited and always ended; `c_scan` says how far it goes. Whether the
findings keep an image from being published, and what is known of its packages, is decided over the `Content` elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection.appliance import InspectionLimits, reason_of
from tasks.engine.inspection.c_generalize import IO_ERROR
from tasks.engine.inspection.c_scan import NO_SYSTEM
from tasks.engine.inspection.content import Content
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.guestfs import DiskSource, ask_about
from tasks.engine.inspection.secrets import finding

_CHILD = "tasks.engine.inspection.scan_child"


def scan(disks: Sequence[DiskSource], limits: InspectionLimits) -> Content:
    """What is on the disks, the system's first, which are opened read-only as raw and never probed for a format.

    The same bytes give the same content, so time that runs out is no part of it: HostUnavailable then, and where libguestfs
    does not work here or a disk does not answer. A disk without a system has one finding.
    """
    if not disks:
        raise ValueError("there is nothing to scan without a disk")
    answer = ask_about(_CHILD, disks, limits)
    if "content" not in answer:
        reason = reason_of(answer)
        if "late" in answer or IO_ERROR in reason:
            raise HostUnavailable("inspection", f"the disks could not be scanned: {reason}")
        return _without_system(Content(facts=OsFacts(reason=reason)))
    content = Content.from_json(answer["content"])
    return content if content.facts.known else _without_system(content)


def _without_system(content: Content) -> Content:
    return replace(content, findings=(finding(NO_SYSTEM, "", content.facts.reason), *content.findings))
