"""Inspection by the real libguestfs, in its child process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection import appliance
from tasks.engine.inspection.guestfs import DiskSource, InspectionLimits, inspect

PATIENT = InspectionLimits(kvm=False, timeout_seconds=240)


@pytest.mark.guest
def test_sample_guest_behind_a_server_is_recognised(served_sample: DiskSource):
    facts = inspect([served_sample], PATIENT)
    assert (facts.type, facts.distro, facts.major, facts.architecture) == ("linux", "debian", 12, "x86_64")
    assert (facts.hostname, facts.osinfo, facts.package_format) == ("sample", "debian12", "deb")
    assert {each.type for each in facts.filesystems} == {"vfat", "ext4"}


@pytest.mark.guest
def test_disk_that_looks_like_qcow2_is_read_as_raw_and_unknown(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", disk, "9M"], check=True)
    with disk.open("r+b") as file:
        file.truncate(2 << 20)
    facts = inspect([DiskSource(disk)], PATIENT)
    assert not facts.known
    assert facts.reason == "no operating system was found on the disk"


@pytest.mark.guest
def test_inspection_out_of_time_leaves_nothing_behind(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x00" * (2 << 20))
    before = set(Path("/tmp").glob("*guestfs*"))
    with pytest.raises(HostUnavailable, match="took more than 1 s"):
        inspect([DiskSource(disk)], InspectionLimits(kvm=False, timeout_seconds=1))
    assert set(Path("/tmp").glob("*guestfs*")) <= before


@pytest.mark.guest
def test_export_that_nobody_serves_is_the_hosts_fault(tmp_path: Path):
    with pytest.raises(HostUnavailable) as failure:
        inspect([DiskSource(tmp_path / "absent.sock", "x")], PATIENT)
    assert failure.value.code == "host.inspection"


def test_child_sees_no_secret_of_its_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMS_API_KEY", "secret")
    assert "secret" not in appliance.environment(Path("/tmp/x"), kvm=False).values()


@pytest.mark.parametrize(("length", "inside"), [(72, True), (73, False)])
def test_sockets_lie_in_the_folder_that_is_removed_where_their_address_fits(length: int, inside: bool):
    folder = Path("/" + "x" * (length - 1))
    assert (appliance.environment(folder, kvm=False).get("XDG_RUNTIME_DIR") == str(folder)) is inside
