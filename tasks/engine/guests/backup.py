"""A running guest's disks as they are at one moment, offered by QEMU over NBD while the guest goes on (pull-mode backup).

Format: https://libvirt.org/formatbackup.html. When that moment is, is `point`'s to choose; who reads, `tasks.engine.disks`.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import libvirt
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it ships no type information

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.checkpoints import checkpoint_xml, disk_targets
from tasks.engine.guests.domain_xml import AGENT_CHANNEL
from tasks.engine.guests.hypervisor import libvirt_calls
from tasks.engine.guests.overlay import EcsFiles

LIBVIRT_FOLDERS = (Path("/var/lib/libvirt/qemu"), Path.home() / ".config/libvirt/qemu/lib")
SOCKET_NAME = "ims-backup.sock"
END_SECONDS = 30.0
LEAST_FREE_BYTES = 256 << 20
"""What the guest overwrites meanwhile is kept in scratch files; with less room than this none is begun."""


class Job(StrEnum):
    """Whose backup job runs on a guest."""

    NONE = "none"
    OURS = "ours"
    OTHERS = "others"


@dataclass(frozen=True, kw_only=True)
class BackupPlan:
    """What to offer: for each disk the checkpoint whose changes are told, or None for all of it; and the checkpoint to make."""

    since: Mapping[str, str | None]
    checkpoint: str


def begin(domain: Any, files: EcsFiles, plan: BackupPlan) -> Path:
    """Start to offer the disks as they are now; gives the NBD server's socket, where each disk is an export of its name."""
    socket = _socket(domain, files)
    socket.unlink(missing_ok=True)
    with libvirt_calls("beginning a backup"):
        description = backup_xml(domain, files, plan, socket)
        domain.backupBegin(description, checkpoint_xml(domain, plan.checkpoint, plan.since), 0)
    return socket


def end(domain: Any, files: EcsFiles) -> None:
    """Stop offering, and remove what the backup kept; nothing happens where none of ours runs."""
    deadline = time.monotonic() + END_SECONDS
    while (job := job_of(domain)) is not Job.NONE:
        if job is Job.OTHERS:
            raise HostUnavailable("backup_busy", "another backup of this guest runs", remedy="Wait for it to end.")
        if time.monotonic() > deadline:
            raise HostUnavailable("backup_busy", "the guest's backup does not end", remedy="Look at `virsh domjobinfo`.")
        _abort(domain)
        time.sleep(0.05)
    sweep(files)


def sweep(files: EcsFiles) -> None:
    """Remove the scratch files of a backup that has ended."""
    for scratch in files.folder.glob("scratch-*.qcow2"):
        scratch.unlink(missing_ok=True)


def runs(domain: Any) -> bool:
    """Whether any backup job of the guest is under way."""
    return job_of(domain) is not Job.NONE


def job_of(domain: Any) -> Job:
    """Whose backup job runs on the guest."""
    with libvirt_calls("asking for a guest's backup"):
        try:
            root: ET.Element = fromstring(domain.backupGetXMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID):
                return Job.NONE
            raise
    server = root.find("server")
    socket = "" if server is None else server.get("socket", "")
    return Job.OURS if Path(socket).name == SOCKET_NAME else Job.OTHERS


def require_room(files: EcsFiles) -> None:
    """HostUnavailable where the scratch files may soon find no room: the guest's own writes would then fail."""
    if shutil.disk_usage(files.folder).free < LEAST_FREE_BYTES:
        raise HostUnavailable("disk_space", f"{files.folder} has too little free space", remedy="Free some, then try again.")


def backup_xml(domain: Any, files: EcsFiles, plan: BackupPlan, socket: Path) -> str:
    """The description of the job; disks that are not planned are left out by name."""
    root = ET.Element("domainbackup", mode="pull")
    ET.SubElement(root, "server", transport="unix", socket=str(socket))
    disks = ET.SubElement(root, "disks")
    for target in disk_targets(domain):
        if target not in plan.since:
            ET.SubElement(disks, "disk", name=target, backup="no")
            continue
        since = plan.since[target]
        disk = ET.SubElement(disks, "disk", name=target, backup="yes", type="file")
        disk.set("backupmode", "full" if since is None else "incremental")
        if since is not None:
            disk.set("incremental", since)
        ET.SubElement(disk, "scratch", file=str(files.folder / f"scratch-{target}.qcow2"))
    return ET.tostring(root, encoding="unicode")


def bitmap_context(target: str) -> str:
    """The NBD metadata context that tells what changed on a disk."""
    return f"qemu:dirty-bitmap:backup-{target}"


def _socket(domain: Any, files: EcsFiles) -> Path:
    """In libvirt's own folder of the domain: QEMU may write there, and confinement by AppArmor lets it."""
    with libvirt_calls("reading a guest's channels"):
        root: ET.Element = fromstring(domain.XMLDesc(0))
    source = root.find(f"devices/channel/target[@name='{AGENT_CHANNEL}']/../source")
    name = Path(source.get("path", "") if source is not None else "").parent.name
    for folder in LIBVIRT_FOLDERS:
        if name and (found := folder / f"domain-{name.removeprefix('domain-')}").is_dir():
            return found / SOCKET_NAME
    return _own_folder(root, files) / SOCKET_NAME


def _own_folder(root: ET.Element, files: EcsFiles) -> Path:
    """A folder below the ECS's that its QEMU may write to."""
    folder = files.folder / "backup"
    folder.mkdir(mode=0o700, exist_ok=True)
    label = root.findtext("seclabel[@model='dac']/label") or ""
    if os.geteuid() == 0 and (owner := re.fullmatch(r"\+(\d+):\+(\d+)", label)):
        os.chown(folder, int(owner[1]), int(owner[2]))
    return folder


def _abort(domain: Any) -> None:
    try:
        domain.abortJob()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # it has just ended by itself
            raise HostUnavailable("guest", f"ending a guest's backup: {error.get_error_message()}") from error
