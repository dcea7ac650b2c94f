"""What of this service is on a host: domains with their files and backup jobs, folders of guests, debts of captures.

It changes nothing, and whether a thing should be there is the catalog's to say.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it ships no type information

from tasks.engine.guests import domain as domains
from tasks.engine.guests import watch
from tasks.engine.guests.backup import SOCKET_NAME
from tasks.engine.guests.boot_check import CHECK_PREFIX
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls
from tasks.engine.guests.overlay import EcsFiles
from tasks.engine.guests.watch import Debt

_NO_JOB = (libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID)


class Job(StrEnum):
    """Whose backup job runs on a guest."""

    NONE = "none"
    OURS = "ours"
    OTHERS = "others"


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


def job_of(domain: Any) -> Job:
    """Whose backup job runs on the guest."""
    with libvirt_calls("asking for a guest's backup"):
        try:
            root: ET.Element = fromstring(domain.backupGetXMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() in _NO_JOB:
                return Job.NONE
            raise
    server = root.find("server")
    socket = "" if server is None else server.get("socket", "")
    return Job.OURS if Path(socket).name == SOCKET_NAME else Job.OTHERS


def checked_folders(hypervisor: Hypervisor) -> set[Path]:
    """Folders that a boot check runs in now."""
    with libvirt_calls("listing guests"):
        checks = [found for found in hypervisor.connection.listAllDomains() if found.name().startswith(CHECK_PREFIX)]
    return {folder for check in checks for folder in _folders(check)}


def guest_folders(ecs_folder: Path) -> dict[UUID, Path]:
    """The folder of every ECS that has one."""
    found = {_uuid(path.name): path for path in ecs_folder.glob("*-*-*-*-*") if path.is_dir()}
    return {ecs_id: path for ecs_id, path in found.items() if ecs_id is not None}


def old_check_folders(ecs_folder: Path, *, seconds: float) -> list[Path]:
    """Folders of boot checks in which nothing was made or removed for so long."""
    return [path for path in sorted(ecs_folder.glob("boot-*")) if path.is_dir() and _age(path) > seconds]


def due_debts(ecs_folder: Path) -> Iterator[tuple[UUID, Debt]]:
    """What captures owe guests and somebody else should pay now."""
    for ecs_id, path in guest_folders(ecs_folder).items():
        debt = watch.owed(EcsFiles(path))
        if debt is not None and is_due(debt):
            yield ecs_id, debt


def is_due(debt: Debt) -> bool:
    return debt.orphaned or debt.thaw_is_due


def _folders(domain: Any) -> Iterator[Path]:
    with libvirt_calls("reading a guest's disks"):
        root: ET.Element = fromstring(domain.XMLDesc(0))
    for source in root.iterfind("devices/disk[@device='disk']/source[@file]"):
        yield Path(source.get("file", "")).parent.resolve()


def _uuid(name: str) -> UUID | None:
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None  # UUID() also takes other spellings


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its check has just ended
        return 0.0
