"""What of this service is on a host: domains with their files and backup jobs, and what boot checks left.

It changes nothing, and whether a thing should be there is the catalog's to say.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it ships no type information

from tasks.engine.guests import domain as domains
from tasks.engine.guests.backup import Job, job_of
from tasks.engine.guests.boot_check import CHECK_PREFIX
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDomain:
    """One domain of this service; `folders` are those of its disks."""

    state: DomainState
    job: Job
    folders: frozenset[Path]

    def lies_in(self, folder: Path) -> bool:
        """Whether all its disks are below `folder`; one without any lies nowhere."""
        return bool(self.folders) and all(each.is_relative_to(folder.resolve()) for each in self.folders)


def domains_here(hypervisor: Hypervisor) -> dict[UUID, SeenDomain]:
    """Every ECS's domain that libvirt knows of, whichever catalog it belongs to."""
    seen: dict[UUID, SeenDomain] = {}
    for ecs_id, state in domains.domains(hypervisor).items():
        if (found := hypervisor.find(ecs_id)) is not None:  # else it went while we looked
            seen[ecs_id] = SeenDomain(state=state, job=job_of(found), folders=frozenset(_folders(found)))
    return seen


def checked_folders(hypervisor: Hypervisor) -> set[Path]:
    """Folders that a boot check runs in now."""
    with libvirt_calls("listing guests"):
        checks = [found for found in hypervisor.connection.listAllDomains() if found.name().startswith(CHECK_PREFIX)]
    return {folder for check in checks for folder in _folders(check)}


def old_check_folders(ecs_folder: Path, *, seconds: float) -> list[Path]:
    """Folders of boot checks in which nothing was made or removed for so long."""
    return [path for path in sorted(ecs_folder.glob("boot-*")) if path.is_dir() and _age(path) > seconds]


def _folders(domain: Any) -> Iterator[Path]:
    with libvirt_calls("reading a guest's disks"):
        root: ET.Element = fromstring(domain.XMLDesc(0))
    for source in root.iterfind("devices/disk[@device='disk']/source[@file]"):
        yield Path(source.get("file", "")).parent.resolve()


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its check has just ended
        return 0.0
