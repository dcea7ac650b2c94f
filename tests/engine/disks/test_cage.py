"""What a QEMU that was taken over could still do: each test is an attack from inside, run as real code in the real cage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cage_fixtures import found, probe, qemu_img, scattered_disk

from tasks.engine.disks import cage
from tasks.engine.disks.cage import Cage, image_node
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.errors import HostUnavailable

_OPEN = "import sys\ntry: open({path!r}, {mode!r})\nexcept OSError as e: print(type(e).__name__)\nelse: print('OPEN')"
_CONNECT = (
    "import socket\ntry: socket.create_connection(('127.0.0.1', {port}), 3)\nexcept OSError: print('DENIED')\nelse: print('IN')"
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "private" / "disk.img"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"the image's own bytes")
    return path


@pytest.fixture
def room(image: Path) -> Cage:
    return Cage(image, cpu_seconds=20)


def answer(code: str, room: Cage) -> str:
    status, words, output = probe(code, room)
    assert status == 0, words
    return output.strip()


@pytest.fixture(params=["filter", "namespaces alone"])
def walls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attack below must fail with the system call filter and without it."""
    if request.param != "filter":
        monkeypatch.setattr(cage, "filter_program", lambda: None)


def test_cage_shows_only_the_image_and_the_system(room: Cage, walls: None) -> None:
    assert answer("import os; print(sorted(os.listdir('/')), os.listdir('/dev'))", room) == (
        "['bin', 'dev', 'image', 'lib', 'lib64', 'usr'] ['null']"
    )


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/status", "/sys/kernel", "neighbour", "/dev/vda", "/tmp", "/root"])
def test_cage_hides_every_other_file(room: Cage, path: str, walls: None) -> None:
    neighbour = room.file.parent / "neighbour"
    neighbour.write_text("secret")
    assert answer(_OPEN.format(path=str(neighbour) if path == "neighbour" else path, mode="rb"), room) == "FileNotFoundError"


@pytest.mark.parametrize("path", ["/image", "/usr/bin/env", "/new", "/dev/new", "/usr/new"])
def test_cage_lets_nothing_be_written(room: Cage, path: str, walls: None) -> None:
    assert answer(_OPEN.format(path=path, mode="ab"), room) in ("OSError", "PermissionError")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o400])
def test_cage_reads_an_image_that_only_its_owner_may_read(room: Cage, mode: int) -> None:
    room.file.chmod(mode)
    assert answer("print(open('/image').read())", room) == "the image's own bytes"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what belongs to another user")
def test_cage_as_root_reads_another_users_private_image_as_that_user(room: Cage) -> None:
    os.chown(room.file, 12345, 23456)
    room.file.chmod(0o600)
    assert answer("import os; print(open('/image').read(), os.getuid(), os.getgid())", room).endswith("bytes 12345 23456")


def test_cage_is_unprivileged(room: Cage, walls: None) -> None:
    code = (
        "import ctypes, os; prctl = ctypes.CDLL(None).prctl\n"
        "print(os.getresuid(), os.getresgid(), prctl(39, 0, 0, 0, 0), sum(prctl(23, n, 0, 0, 0) == 1 for n in range(41)))"
    )
    assert answer(code, room) == "(65534, 65534, 65534) (65534, 65534, 65534) 1 0"


def test_cage_has_no_network(room: Cage, walls: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert answer(_CONNECT.format(port=server.getsockname()[1]), room) == "DENIED"


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_NETLINK", "AF_VSOCK", "AF_ALG"])
def test_cage_makes_no_socket_of_any_kind(room: Cage, family: str) -> None:
    code = f"import socket\ntry: socket.socket(socket.{family}, socket.SOCK_RAW)\nexcept PermissionError: print('DENIED')"
    assert answer(code, room) == "DENIED"


@pytest.mark.parametrize("call", ["os.fork()", "os.posix_spawn('/bin/true', ['true'], {})"])
def test_cage_makes_no_process(room: Cage, call: str) -> None:
    assert probe(f"import os; {call}", room)[1].startswith("PermissionError")


@pytest.mark.parametrize("namespace", [0x10000000, 0x00020000, 0x40000000], ids=["user", "mount", "network"])
def test_cage_makes_no_namespace(room: Cage, namespace: int) -> None:
    assert answer(f"import ctypes; print(ctypes.CDLL(None).unshare({namespace}))", room) == "-1"


def test_cage_sees_no_other_process(room: Cage, walls: None) -> None:
    code = f"import os\ntry: os.kill({os.getpid()}, 0)\nexcept ProcessLookupError: print('NONE')"
    assert answer(code, room) == "NONE"


def test_cage_gives_no_secret_of_the_environment(room: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in answer("import os; print(dict(os.environ))", room)


def test_cage_ends_a_runaway_in_memory(room: Cage) -> None:
    status, words, _ = probe("x = bytearray(3 << 30)", room)
    assert (status, words) == (1, "MemoryError")


def test_cage_ends_a_runaway_in_time(image: Path) -> None:
    status, _, _ = probe("while True: pass", Cage(image, cpu_seconds=1))
    assert status in (128 + signal.SIGXCPU, 128 + signal.SIGKILL)


def test_cage_ends_what_takes_too_long(room: Cage) -> None:
    with pytest.raises(HostUnavailable, match=r"host\.timeout"):
        probe("import time; time.sleep(60)", room, timeout_seconds=1)


def test_cage_bounds_the_file_that_it_may_write(image: Path) -> None:
    room = Cage(image, cpu_seconds=20, writable=True, file_size=1 << 20)
    with cage.lent(image):
        status, words, _ = probe("open('/image', 'r+b').write(bytes(2 << 20))", room)
    assert status == 1
    assert "File too large" in words
    assert image.stat().st_size <= 1 << 20
    assert image.stat().st_uid == os.geteuid()


def test_cage_bounds_open_files(room: Cage) -> None:
    assert "Too many open files" in probe("x = [open('/image') for _ in range(1000)]", room)[1]


@pytest.mark.parametrize("path_has", ["no bwrap", "a bwrap that may not"])
def test_cage_that_cannot_be_built_is_an_error(
    room: Cage, path_has: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("setpriv", "prlimit"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    if path_has != "no bwrap":
        (tools / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2; exit 1\n")
        (tools / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(HostUnavailable, match=r"host\.cage: .*(make setup|namespaces)"):
        probe("print('never')", room)


def test_cage_does_not_outlive_an_owner_that_is_killed(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", disk, "1M")
    code = (
        "import sys, time; from pathlib import Path; from tasks.engine.disks.formats import *\n"
        "from tasks.engine.disks.qemu_reader import QemuReader\n"
        f"reader = QemuReader(Window(Path({str(disk)!r})), Finding(DiskFormat.QCOW2, 1 << 20))\n"
        "print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        children = _descendants(owner.pid)
        assert len(children) >= 3, "bubblewrap twice, and QEMU"
        owner.kill()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in children if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_image_node_names_the_driver_and_forbids_a_backing_file(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk.raw")
    node = image_node(Window(disk, 512, 1000), DiskFormat.QCOW2)
    assert (node["driver"], node["backing"], node["file"]["driver"]) == ("qcow2", None, "raw")
    assert (node["file"]["offset"], node["file"]["size"]) == (512, 1024)


def test_image_node_backing_file_is_not_opened_even_without_the_gate(tmp_path: Path) -> None:
    base, disk = scattered_disk(tmp_path / "base.raw"), tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", base, "-F", "raw", disk)
    with QemuReader(Window(disk), Finding(DiskFormat.QCOW2, found(base, DiskFormat.RAW).virtual_size)) as reader:
        assert all(not any(chunk.read()) for chunk in reader.pending_chunks())


def _descendants(pid: int) -> list[int]:
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return children + [later for child in children for later in _descendants(child)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
