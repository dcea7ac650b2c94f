"""The built disk as a file: size, partitions, owners, and the same bytes every time."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from deployments.sample_guest import build, disk
from deployments.sample_guest.__main__ import main
from deployments.sample_guest.root import filled, merged
from tasks.engine.errors import HostUnavailable


def debugfs(image: Path, request: str) -> str:
    target = f"{image}?offset={disk.ROOT_START}"
    return subprocess.run(["debugfs", "-R", request, target], check=True, capture_output=True, text=True).stdout


def test_disk_is_small_and_sparse(sample_disk: Path) -> None:
    status = sample_disk.stat()
    assert status.st_size < 100_000_000
    assert status.st_blocks * 512 < 60_000_000
    assert status.st_mode & 0o777 == 0o644


def test_build_again_gives_the_same_bytes(sample_disk: Path, packages: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again.raw", packages=packages).read_bytes() == sample_disk.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.raw"]


def test_build_without_packages_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable):
        build(tmp_path / "out" / "sample.raw", packages=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_without_packages_says_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "sample.raw"), "--packages", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err.startswith("host.packages: ")


def test_master_boot_record_names_two_partitions() -> None:
    record = disk.master_boot_record(b"\xeb" * 440)
    first, second = record[446:462], record[462:478]
    assert (first[0], first[4], second[4]) == (0x80, 0x0E, 0x83)
    assert struct.unpack("<II", second[8:]) == (disk.ROOT_START // 512, disk.ROOT_SIZE // 512)
    assert record[510:] == b"\x55\xaa"


def test_root_partition_passes_a_check(sample_disk: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.ext4"
    with sample_disk.open("rb") as stream:
        stream.seek(disk.ROOT_START)
        root.write_bytes(stream.read())
    assert subprocess.run(["e2fsck", "-f", "-n", root], capture_output=True, check=False).returncode == 0


def test_files_belong_to_the_guests_users(sample_disk: Path) -> None:
    assert "Mode:  0640" in debugfs(sample_disk, "stat /etc/shadow")
    assert "User:     0   Group:     0" in debugfs(sample_disk, "stat /usr/bin/bash")
    assert "User:  1000   Group:  1000" in debugfs(sample_disk, "stat /home/ims")


def test_no_password_opens_the_guest(sample_disk: Path) -> None:
    hashes = [line.split(":")[1] for line in debugfs(sample_disk, "cat /etc/shadow").splitlines()]
    assert set(hashes) <= {"!", "*"}


def test_identity_is_left_to_the_first_boot(sample_disk: Path) -> None:
    assert debugfs(sample_disk, "cat /etc/machine-id") == ""
    assert "ssh_host" not in debugfs(sample_disk, "ls /etc/ssh")


def test_package_status_has_what_is_in_the_guest(sample_disk: Path) -> None:
    status = debugfs(sample_disk, "cat /var/lib/dpkg/status")
    assert "Package: dropbear-bin\nStatus: install ok installed\n" in status
    assert status.count("\n\nPackage: ") == status.count("Status: install ok installed") - 1


def test_merged_path_moves_top_folders_below_usr() -> None:
    assert (merged("bin/bash"), merged("etc/motd")) == ("usr/bin/bash", "etc/motd")


def test_filled_text_without_a_value_is_a_defect() -> None:
    assert filled("UUID=@A_B@", {"A_B": "1"}) == "UUID=1"
    with pytest.raises(KeyError):
        filled("@A@", {})
