"""Exports: every format gives back the same disk, and a failure leaves neither a file nor a part of one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cage_fixtures import SIZE, content_digest, file_digest, found, scattered_disk

from tasks.engine.disks.convert import export_disk
from tasks.engine.disks.formats import EXPORT_FORMATS, DiskFormat, Window
from tasks.engine.disks.opening import open_disk
from tasks.engine.errors import HostUnavailable, RequestRefused

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scattered_disk(tmp_path_factory.mktemp("disk") / "disk.raw")


@pytest.fixture(scope="module")
def server(disk: Path) -> Iterator[Path]:
    """An NBD server of the disk, reachable as the host's own is: by its owner and group."""
    path = disk.parent / "nbd.sock"
    child = subprocess.Popen(["nbdkit", "--exit-with-parent", "--foreground", "--readonly", "--unix", path, "file", disk])
    try:
        while not path.exists():
            assert child.poll() is None
            time.sleep(0.02)
        path.chmod(0o660)
        yield path
    finally:
        child.kill()
        child.wait()


def export(server: Path, destination: Path, format: DiskFormat, *, size: int = SIZE) -> list[float]:
    shares: list[float] = []
    export_disk(
        nbd_socket=server,
        export_name="disk",
        virtual_size=size,
        format=format,
        destination=destination,
        progress=shares.append,
    )
    return shares


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_export_disk_round_trip(server: Path, disk: Path, tmp_path: Path, format: DiskFormat) -> None:
    destination = tmp_path / "image"
    shares = export(server, destination, format)
    finding = found(destination, format if format is DiskFormat.RAW else None)
    assert (finding.format, finding.virtual_size) == (format, SIZE)
    with open_disk(Window(destination), finding, scratch=tmp_path) as reader:
        assert content_digest(reader) == file_digest(disk)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    assert destination.stat().st_uid == os.geteuid()


def test_export_disk_keeps_holes_of_a_raw_file(server: Path, tmp_path: Path) -> None:
    export(server, tmp_path / "image", DiskFormat.RAW)
    assert (tmp_path / "image").stat().st_blocks * 512 < SIZE // 2


def test_export_disk_too_large_for_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"request\.format: vhd cannot hold"):
        export(tmp_path / "no socket", tmp_path / "image", DiskFormat.VHD, size=2041 << 30)


@pytest.mark.parametrize("format", [DiskFormat.QCOW2, DiskFormat.ZVHD])
def test_export_disk_without_a_server_is_unavailable(tmp_path: Path, format: DiskFormat) -> None:
    with pytest.raises(HostUnavailable, match=r"host\.nbd"):
        export(tmp_path / "no socket", tmp_path / "image", format)
    assert list(tmp_path.iterdir()) == []


def test_export_disk_of_another_size_is_unavailable(server: Path, tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match=r"host\.nbd.* instead of"):
        export(server, tmp_path / "image", DiskFormat.RAW, size=SIZE + 512)


@pytest.mark.parametrize("format", [DiskFormat.RAW, DiskFormat.VMDK, DiskFormat.ZVHD2])
def test_export_disk_full_disk_leaves_nothing(server: Path, tmp_path: Path, format: DiskFormat) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    code = (
        "import subprocess, sys; from pathlib import Path; from tasks.engine.disks.convert import export_disk\n"
        "from tasks.engine.disks.formats import DiskFormat; from tasks.engine.errors import HostUnavailable\n"
        f"folder = Path({str(folder)!r})\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], check=True)\n"
        "try:\n"
        f"    export_disk(nbd_socket=Path({str(server)!r}), export_name='disk', virtual_size={SIZE}, progress=lambda _: None,\n"
        f"        format=DiskFormat({str(format)!r}), destination=folder / 'image')\n"
        "except HostUnavailable as error: print(error.code, list(folder.iterdir()))"
    )
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    ended = subprocess.run([*unshare, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout == "host.disk_full []\n", ended.stderr


def test_export_disk_into_a_folder_that_is_not_there_is_unavailable(server: Path, tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match=r"host\.disk_write"):
        export(server, tmp_path / "absent" / "image", DiskFormat.RAW)


def test_export_disk_overwrites_what_a_killed_one_left(server: Path, disk: Path, tmp_path: Path) -> None:
    (tmp_path / ".image.part").write_bytes(b"left" * (16 << 20))
    export(server, tmp_path / "image", DiskFormat.RAW)
    assert file_digest(tmp_path / "image") == file_digest(disk)
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
