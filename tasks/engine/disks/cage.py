"""The cage: QEMU's tools run where a hostile image can reach nothing but itself. docs/adr/0003-cage.md says why so.

bubblewrap gives them namespaces of their own (no network, no other process, an empty file system but for /usr and the one
image file), no capability and no new privileges; prlimit bounds memory, CPU time, file size and open files. Formats are
named, never probed, and a backing file is overridden by null. Which files may come here at all is the gate's decision.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.engine.children import Identity, child, last_words
from tasks.engine.disks.formats import QEMU_DRIVERS, DiskFormat, Window
from tasks.engine.errors import DiskRefused, HostUnavailable

IMAGE = "/image"
"""Where the image file is inside the cage."""
NOBODY = "65534"
MEMORY_BYTES = 2 << 30
OPEN_FILES = 256
MIB = 1 << 20
BACKED = (DiskFormat.QCOW, DiskFormat.QCOW2, DiskFormat.VMDK)
"""Formats whose QEMU driver would otherwise open a backing file by itself."""
_NO_NAMESPACE = (b"No permissions to create", b"Creating new namespace failed", b"setting up uid map")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What a caged tool may see and use. `writable` and `folders` are read-write binds: (outside, inside)."""

    image: Path | None = None
    writable: tuple[tuple[Path, str], ...] = ()
    cpu_seconds: int = 600
    file_bytes: int = MIB
    memory_bytes: int = MEMORY_BYTES
    identity: Identity | None = field(default=None)


def walls_for(image: Path, **walls: Any) -> Walls:
    """Walls around one image file; root takes on the identity of its owner, because a process without capabilities
    may read only what its own user may."""
    status = image.stat()
    return Walls(image=image, identity=Identity(status.st_uid, status.st_gid), **walls)


def caged(command: Sequence[str], walls: Walls) -> list[str]:
    """The full command line of a tool inside its cage."""
    limits = [
        f"--as={walls.memory_bytes}",
        f"--cpu={walls.cpu_seconds}",
        f"--fsize={walls.file_bytes}",
        f"--nofile={OPEN_FILES}",
        "--core=0",
    ]
    binds = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            binds += ["--symlink", f"usr/{name}", f"/{name}"]
        elif Path("/", name).is_dir():
            binds += ["--ro-bind", f"/{name}", f"/{name}"]
    if walls.image is not None:
        binds += ["--ro-bind", str(walls.image), IMAGE]
    for outside, inside in walls.writable:
        binds += ["--bind", str(outside), inside]
    isolation = ["--unshare-all", "--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--cap-drop", "ALL"]
    lifetime = ["--die-with-parent", "--new-session", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
    return ["prlimit", *limits, "bwrap", *isolation, *lifetime, *binds, "--dev", "/dev", "--proc", "/proc", "--", *command]


@contextmanager
def running(command: Sequence[str], walls: Walls) -> Iterator[subprocess.Popen[bytes]]:
    """A tool running in its cage, killed when the context ends."""
    with child(caged(command, walls), identity=walls.identity) as process:
        yield process


def run(
    command: Sequence[str], walls: Walls, *, timeout_seconds: float, on_output: Callable[[bytes], None] | None = None
) -> None:
    """Run a tool to its end; `on_output` gets its standard output as it comes. Raises what `explain` makes of a failure."""
    with running(command, walls) as process:
        complaint = b""
        try:
            if on_output is not None and process.stdout is not None:
                while piece := process.stdout.read1(4096):  # type: ignore[attr-defined]  # a BufferedReader by default
                    on_output(piece)
            _, complaint = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise DiskRefused("too_slow", f"{command[0]} did not finish in {timeout_seconds:.0f} s") from error
        if process.returncode != 0:
            raise explain(command[0], complaint)


def explain(tool: str, complaint: bytes) -> DiskRefused | HostUnavailable:
    """The error for a caged tool that failed: the host's fault where there is no cage or no space, else the file's."""
    words = last_words(complaint)
    if any(mark in complaint for mark in _NO_NAMESPACE) or complaint.startswith(b"bwrap:"):
        return HostUnavailable("cage", f"no cage on this host: {words}", remedy="Allow user namespaces for this user.")
    if b"No space left" in complaint or b"File too large" in complaint:
        return HostUnavailable("disk_full", f"{tool}: no space left", remedy="Free space and run it again.")
    return DiskRefused("unreadable", f"QEMU cannot read it: {words or tool + ' ended'}", remedy="Export the disk again.")


@contextmanager
def meeting_place(identity: Identity | None) -> Iterator[Path]:
    """A short-named private folder for a socket that the caged tool makes and this process connects to."""
    folder = Path(tempfile.mkdtemp(prefix="ims-cage-"))
    try:
        if identity is not None and os.geteuid() == 0:
            os.chown(folder, identity.user, identity.group)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def block_driver(format: DiskFormat, window: Window, *, writable: bool = False) -> str:
    """QEMU's JSON name of the image inside the cage: the driver named, the window cut out, nothing behind it."""
    node: dict[str, Any] = {"driver": "file", "filename": IMAGE, "locking": "off"}
    if window.offset or window.size >= 0:
        size = {"size": window.size} if window.size >= 0 else {}
        node = {"driver": "raw", "offset": window.offset, **size, "file": node}
    image: dict[str, Any] = {"driver": QEMU_DRIVERS[format], "file": node}
    if format in BACKED:
        image["backing"] = None
    if not writable:
        image["read-only"] = True
    return "json:" + json.dumps(image)
