"""The cage around every QEMU process that reads or writes a disk image file; docs/adr/0003-cage.md says why it is built so.

Inside there are /usr read-only, /dev/null and the one file - no network, no process of the host, no capability, no way to make
a socket, a process or a namespace. What QEMU is told to do in there is up to `qemu_reader`, `replay` and `convert`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from tasks.engine import children
from tasks.engine.children import Child, Launch, Limits
from tasks.engine.disks.formats import QEMU_DRIVERS, DiskFormat, Window
from tasks.engine.disks.seccomp import filter_program
from tasks.engine.errors import HostUnavailable
from tasks.engine.geometry import SECTOR_SIZE

IMAGE = "/image"
"""Where the one file is inside."""
NOBODY = 65534

_WITH_BACKING = (DiskFormat.QCOW, DiskFormat.QCOW2, DiskFormat.VMDK)
"""Formats whose drivers know backing files, and the option that forbids them; the others refuse the option itself."""

_OWN_LIMITS = Limits(address_space=2 << 30, file_size=0, open_files=256)
_LINKS = [part for name in ("lib", "lib64", "bin") for part in ("--symlink", f"usr/{name}", f"/{name}")]
_SYSTEM = ["--ro-bind", "/usr", "/usr", *_LINKS]
_DEVICES = ["--perms", "0755", "--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/", "--chdir", "/"]
_ALONE = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent"]
_REMEDY = (
    "As an ordinary user, allow unprivileged user namespaces: user.max_user_namespaces above 0, and on distributions that "
    "restrict them kernel.unprivileged_userns_clone=1 or an AppArmor profile for bwrap. In a container, allow mounts."
)


@dataclass(frozen=True, slots=True)
class Cage:
    """What one QEMU tool gets: its file, CPU seconds, the size in bytes it may make that file, and sockets it inherits."""

    file: Path
    cpu_seconds: int
    writable: bool = False
    file_size: int = 0
    sockets: tuple[int, ...] = ()


def image_node(window: Window, format: DiskFormat, *, read_only: bool = True) -> dict[str, Any]:
    """QEMU's description of the disk in IMAGE: its driver is named, nothing is probed, no backing file is opened."""
    node: dict[str, Any] = {"driver": "file", "filename": IMAGE, "read-only": read_only}
    file_size = window.path.stat().st_size
    size = file_size - window.offset if window.size < 0 else window.size
    if window.offset or size != file_size:
        # QEMU counts sectors; an archive pads its members with zeros to whole ones.
        whole = min(-(-size // SECTOR_SIZE) * SECTOR_SIZE, file_size - window.offset)
        node = {"driver": "raw", "offset": window.offset, "size": whole, "file": node, "read-only": read_only}
    alone = {"backing": None} if format in _WITH_BACKING else {}
    return {"driver": QEMU_DRIVERS[format], **alone, "read-only": read_only, "file": node}


def start(tool: Sequence[str], cage: Cage, *, launch: Launch | None = None) -> Child:
    """Start a QEMU tool inside. HostUnavailable('cage') where this host cannot build the cage; there is no other way in."""
    if shutil.which("bwrap") is None:
        raise HostUnavailable("cage", "bubblewrap is not installed", remedy="Run `make setup`.")
    with _loaded_filter() as program:
        descriptors = (*cage.sockets, *([program.fileno()] if program else []))
        command = [*_walls(cage, program), *_unprivileged(cage), *_limits(cage).command(), *tool]
        return children.start(command, replace(launch or Launch(), descriptors=descriptors))


def run(tool: Sequence[str], cage: Cage, *, timeout_seconds: float, launch: Launch | None = None) -> tuple[int, str]:
    """Run a QEMU tool inside to its end: exit status and last words."""
    with start(tool, cage, launch=launch) as child:
        status = child.wait(timeout_seconds=timeout_seconds)
        require_cage(child)
        return status, child.last_words()


def require_cage(child: Child) -> None:
    """HostUnavailable('cage') where a child that ended was never let in."""
    words = child.last_words()
    if words.startswith(("bwrap:", "setpriv:", "prlimit:")):
        raise HostUnavailable("cage", f"no cage can be built for QEMU on this host ({words})", remedy=_REMEDY)


@contextmanager
def lent(file: Path) -> Iterator[None]:
    """A private file of ours, writable for whoever runs in the cage; root takes it back afterwards."""
    if not _can_become_others():
        yield
        return
    before = file.stat()
    os.chown(file, NOBODY, NOBODY)
    try:
        yield
    finally:
        os.chown(file, before.st_uid, before.st_gid)


def _walls(cage: Cage, program: IO[bytes] | None) -> list[str]:
    """bubblewrap and what it lets in."""
    variables = {"PATH": "/usr/bin", "LC_ALL": "C", "MALLOC_ARENA_MAX": "2"}
    return [
        "bwrap",
        *_ALONE,
        *_user(),
        "--clearenv",
        *(part for name, value in variables.items() for part in ("--setenv", name, value)),
        *_SYSTEM,
        "--bind" if cage.writable else "--ro-bind",
        str(cage.file.absolute()),
        IMAGE,
        *_DEVICES,
        *(["--seccomp", str(program.fileno())] if program else []),
        "--",
    ]


def _user() -> list[str]:
    """Root builds the walls itself and keeps just what changes its identity; anybody else needs a user namespace for it."""
    if _can_become_others():
        kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
        return ["--cap-drop", "ALL", *(part for name in kept for part in ("--cap-add", name))]
    return ["--unshare-user", "--disable-userns", "--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"]


def _unprivileged(cage: Cage) -> list[str]:
    """What gives up root inside: nobody, or who owns the file where only the owner may read it."""
    if not _can_become_others():
        return []
    status = cage.file.stat()
    user, group = (NOBODY, NOBODY) if status.st_mode & 0o004 and not cage.writable else (status.st_uid, status.st_gid)
    identity = ["--reuid", str(user), "--regid", str(group), "--clear-groups"]
    return ["setpriv", *identity, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]


def _can_become_others() -> bool:
    """Whether this is root with power over identities; the root of a namespace that maps one user alone has none."""
    maps = [Path(f"/proc/self/{kind}_map").read_text().splitlines() for kind in ("uid", "gid")]
    return os.geteuid() == 0 and all(any(_maps_nobody(line) for line in lines) for lines in maps)


def _maps_nobody(line: str) -> bool:
    first, _, count = map(int, line.split())
    return first <= NOBODY < first + count


def _limits(cage: Cage) -> Limits:
    return replace(_OWN_LIMITS, cpu_seconds=cage.cpu_seconds, file_size=cage.file_size if cage.writable else 0)


@contextmanager
def _loaded_filter() -> Iterator[IO[bytes] | None]:
    """The system call filter in a file that bubblewrap reads while the context lasts."""
    content = filter_program()
    if content is None:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file
