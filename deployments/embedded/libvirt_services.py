"""libvirt's daemons, where no service manager runs them. The domains are `tasks.engine.guests`' matter.

The daemons serve the whole machine: they are started only where nobody serves, and stopped only when nobody uses them.
"""

from __future__ import annotations

import os
from pathlib import Path

from deployments.embedded import probes
from deployments.embedded.reports import ServiceStatus
from deployments.embedded.services import Service
from tasks.engine.settings import Settings

NAMES = ("virtlogd", "libvirtd")
FOLDER = Path("/run/libvirt")
SOCKETS = {"virtlogd": FOLDER / "virtlogd-sock", "libvirtd": FOLDER / "libvirt-sock"}
SERVICE_MANAGER = Path("/run/systemd/system")
START_LOCK = Path("/run/lock/ims-libvirt.lock")
CONNECTED = "03"


def applies(settings: Settings) -> bool:
    """Whether guests run under this machine's system daemon; the one of a session starts by itself."""
    return os.geteuid() == 0 and settings.libvirt_uri in ("qemu:///system", "qemu:///session")


def has_service_manager() -> bool:
    return SERVICE_MANAGER.is_dir()


def service(name: str) -> Service:
    return Service(
        name=name,
        command=(f"/usr/sbin/{name}",),
        address=str(SOCKETS[name]),
        ready=lambda _since: serves(name),
        umask=0o022,
        start_seconds=60,
    )


def serves(name: str) -> bool:
    return probes.unix_answers(SOCKETS[name])


def foreign_status(name: str) -> ServiceStatus:
    """What is true of a daemon that was not started here."""
    if serves(name):
        return ServiceStatus(state="running", address=str(SOCKETS[name]), note="not started by `ims up`")
    note = f"start it with `systemctl start {name}`" if has_service_manager() else ""
    return ServiceStatus(state="stopped", address=str(SOCKETS[name]), note=note)


def in_use(pid: int) -> bool:
    """Whether a guest runs, or somebody is connected to the libvirtd of this pid."""
    written = {path.read_text().strip() for path in (FOLDER / "qemu").glob("*.pid")}
    guests = written - {"", str(pid)}  # libvirtd's own is among them
    return any(Path("/proc", guest).is_dir() for guest in guests) or _has_clients(pid)


def _has_clients(pid: int) -> bool:
    """The kernel lists the accepted end of every connection under the socket's own path; the inode tells whose it is."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    accepted = {f"socket:[{row[6]}]" for row in rows if row[5] == CONNECTED and row[7:] == [str(SOCKETS["libvirtd"])]}
    return any(os.readlink(link) in accepted for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
