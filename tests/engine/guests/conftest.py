"""A libvirt to talk to, folders that QEMU's user can enter, and small disks to boot."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.engine.guests import domain
from tasks.engine.guests.backing import Backing, FileBacking
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import create_overlay

READER = bytes.fromhex(
    "31c0 8ed8 8ed0 bc007c"  # xor ax,ax; mov ds,ax; mov ss,ax; mov sp,0x7c00
    "b442 b280 be407c cd13"  # again: ah=0x42, dl=0x80, si=request; int 0x13: read 8 sectors
    "8306487c08 8126487cff1f ebea"  # request's sector += 8, &= 0x1fff; jmp again
).ljust(0x40, b"\0") + bytes.fromhex("1000 0800 00000010 0800000000000000")
"""A guest that does nothing but read its first 4 MiB round and round."""


def boot_disk(path: Path, code: bytes) -> Path:
    """A disk of 8 MiB with `code` as its boot sector."""
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    with path.open("r+b") as disk:
        disk.truncate(8 << 20)
    return path


@pytest.fixture(scope="session")
def uri(libvirt_uri: str) -> str:
    """The host's libvirt."""
    return libvirt_uri


@pytest.fixture
def hypervisor(uri: str) -> Iterator[Hypervisor]:
    with Hypervisor(uri) as opened:
        yield opened


@pytest.fixture
def folder(open_folder: Path) -> Iterator[Path]:
    """An empty folder for one test that QEMU's user can enter."""
    made = Path(tempfile.mkdtemp(dir=open_folder))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def sample(sample_disk: Path) -> FileBacking:
    """The sample guest's disk; nobody writes to it."""
    return FileBacking(path=sample_disk, virtual_size=sample_disk.stat().st_size)


@pytest.fixture
def reader(folder: Path) -> FileBacking:
    disk = boot_disk(folder / "reader.raw", READER)
    return FileBacking(path=disk, virtual_size=disk.stat().st_size)


@pytest.fixture
def ecs_id(hypervisor: Hypervisor) -> Iterator[UUID]:
    """An id whose domain is gone after the test."""
    made = uuid4()
    yield made
    domain.delete(hypervisor, made)


@pytest.fixture
def reader_spec(reader: FileBacking, folder: Path, ecs_id: UUID) -> DomainSpec:
    """The reading guest, ready to be started."""
    overlay = folder / "disk-0.qcow2"
    create_overlay(overlay, backing=reader, virtual_size=reader.virtual_size)
    disk = DiskSpec(overlay=overlay, backing=reader)
    return DomainSpec(ecs_id=ecs_id, disks=[disk], console=folder / "console.log", kvm=False, memory_mib=64)


class DiskServer:
    """An NBD server for one disk on a unix socket, which can go away and come back."""

    def __init__(self, disk: FileBacking, socket: Path) -> None:
        self.backing = Backing(socket=socket, export="any", virtual_size=disk.virtual_size)
        self._command = ["nbdkit", "--foreground", "--readonly", "--unix", str(socket), "file", str(disk.path)]
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.backing.socket.unlink(missing_ok=True)
        self._child = subprocess.Popen(self._command)
        wait_until(self.backing.socket.exists)
        self.backing.socket.chmod(0o777)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    """Until `condition` holds; fails where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[[FileBacking], DiskServer]]:
    """Starts an NBD server for a disk; it ends with the test."""
    servers: list[DiskServer] = []

    def start(disk: FileBacking) -> DiskServer:
        servers.append(DiskServer(disk, folder / "nbd.sock"))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
