"""Scanning by the real libguestfs: a guest with planted secrets, traps and a second disk, and a guest that is clean."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_generalizing import debugfs, digest
from test_secrets import AWS_ID, PUBLIC, key

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection.content import Content, Severity
from tasks.engine.inspection.guestfs import DiskSource, InspectionLimits
from tasks.engine.inspection.scanning import scan

PATIENT = InspectionLimits(kvm=False, timeout_seconds=600)
MANY = 3_000
DATA_SIZE = 64 << 20
BIG = 6 << 30

PLANTED = {
    "/etc/ssh/ssh_host_rsa_key": key("OPENSSH "),
    "/etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    "/etc/ssh/sshd_config": b"PasswordAuthentication yes\r\n",
    "/root/.ssh/id_rsa": key("RSA "),
    "/home/ims/.ssh/authorized_keys": b"# ours\n" + PUBLIC,
    "/home/ims/a-history": b"ls\n",
    "/opt/keys": PUBLIC,
    "/opt/app/.env": f"AWS_ACCESS_KEY_ID={AWS_ID}\n".encode(),
    "/data/.env": f"AWS_ACCESS_KEY_ID={AWS_ID}\n".encode(),
    "/secret.pem": key("EC "),
    "/var/cache/skipped.pem": key("EC "),
    "/var/lib/docker/skipped.pem": key("EC "),
}
LINKS = {
    "/home/ims/.bash_history": "/etc/shadow",
    "/root/.ssh/authorized_keys": "/opt/keys",
    "/home/evil": "/",
    "/srv/loop": "/srv",
    "/opt/dev": "/dev/zero",
}
EXPECTED = {
    ("identity.machine_id", "/etc/machine-id"),
    ("secret.authorized_keys", "/home/ims/.ssh/authorized_keys"),
    ("secret.authorized_keys", "/root/.ssh/authorized_keys"),
    ("secret.cloud_credentials", "/data/.env"),
    ("secret.cloud_credentials", "/opt/app/.env"),
    ("secret.default_password", "/etc/shadow"),
    ("secret.host_key", "/etc/ssh/ssh_host_rsa_key"),
    ("secret.private_key", "/root/.ssh/id_rsa"),
    ("secret.private_key", "/secret.pem"),
    ("secret.shell_history", "/home/ims/.psql_history"),
    ("ssh.password_login", "/etc/ssh/sshd_config"),
}
EXPECTED_BESIDE = {
    ("secret.private_key", "/dev/sdb:/deep/after/key"),
    ("secret.private_key", "/dev/sdb:/bad name"),
    ("secret.shell_history", "/dev/sdb:/ims/.bash_history"),
    ("secret.cloud_credentials", f"/dev/sdb:/many/{MANY - 1}"),
    ("secret.cloud_credentials", "/dev/sdb:/deep/big"),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    content: Content
    disks_unchanged: bool

    def found(self, *, beside: bool) -> set[tuple[str, str]]:
        """Codes and paths of the findings on the second disk, or on the first."""
        return {(each.code, each.path) for each in self.content.findings if each.path.startswith("/dev/") == beside}


def toor() -> str:
    return subprocess.run(["openssl", "passwd", "-6", "toor"], check=True, capture_output=True, text=True).stdout.strip()


def plant(disk: Path, folder: Path) -> None:
    """The secrets, and links that would lead a careless hand astray."""
    files = PLANTED | {"/etc/shadow": f"root:{toor()}:19600:0:99999:7:::\nims:!:19600::::::\n".encode()}
    script = ["rm /etc/machine-id", "rm /etc/shadow"]
    for number, (path, data) in enumerate(files.items()):
        source = folder / f"planted-{number}"
        source.write_bytes(data)
        script += [f"mkdir {parent}" for parent in reversed(Path(path).parents)][1:]
        script += [f"write {source} {path}"]
    script += [f"symlink {path} {target}" for path, target in LINKS.items()]
    script += ["ln /home/ims/a-history /home/ims/.psql_history", "set_inode_field /home/ims/a-history links_count 2"]
    script += ["cd /home/ims", "mknod fifo p", "mkdir \xff", "cd /srv", "mknod zero c 1 5"]
    debugfs(disk, "\n".join(script) + "\n", "-w")


def make_data_disk(disk: Path, tree: Path) -> None:
    """A disk that is one file system which nothing mounts: traps in names and sizes, and secrets behind them."""
    for name in ("many", "deep/after", "ims", os.fsdecode(b"\xff")):
        (tree / name).mkdir(parents=True)
    for number in range(MANY):
        (tree / "many" / str(number)).write_text(AWS_ID if number == MANY - 1 else "nothing")
    (tree / "deep/after/key").write_bytes(key("EC "))
    (tree / "bad\nname").write_bytes(key("EC "))
    (tree / "ims/.bash_history").write_bytes(b"ls\n")
    os.mkfifo(tree / "fifo")
    for path in ("big", "deep/big", "many/big"):
        with (tree / path).open("wb") as file:
            file.write(AWS_ID.encode() if path == "deep/big" else b"x")
            file.truncate(BIG)
    with disk.open("wb") as file:
        file.truncate(DATA_SIZE)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-N", "8192", "-d", tree, disk], check=True)


@pytest.fixture(scope="module")
def run(sample_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scan")
    disks = [Path(shutil.copyfile(sample_disk, folder / "guest.raw")), folder / "data.raw"]
    plant(disks[0], folder)
    make_data_disk(disks[1], folder / "tree")
    before = [digest(each) for each in disks]
    content = scan([DiskSource(each) for each in disks], PATIENT)
    return Run(content=content, disks_unchanged=[digest(each) for each in disks] == before)


@pytest.mark.guest
def test_every_secret_of_the_system_is_found_and_nothing_else(run: Run):
    assert run.found(beside=False) == EXPECTED


@pytest.mark.guest
def test_secrets_on_a_disk_that_nothing_mounts_are_found_behind_big_files_and_many(run: Run):
    assert run.found(beside=True) == EXPECTED_BESIDE


@pytest.mark.guest
def test_findings_come_in_order_with_remedies_and_without_secrets(run: Run):
    findings = run.content.findings
    assert [each.severity for each in findings] == sorted(each.severity for each in findings)
    assert all(each.remedy and each.detail for each in findings)
    assert not any(secret in str(run.content.as_json()) for secret in (AWS_ID, "$6$", "toor"))
    assert (run.content.more, Content.from_json(run.content.as_json())) == (0, run.content)


@pytest.mark.guest
def test_account_with_the_well_known_password_is_named(run: Run):
    (found,) = (each for each in run.content.findings if each.code == "secret.default_password")
    assert "root" in found.detail


@pytest.mark.guest
def test_what_was_not_looked_at_is_said(run: Run):
    notes = "\n".join(run.content.notes)
    assert "/var/lib/docker: not looked at, it holds other systems" in notes
    assert "only the beginning of 5 big files was searched" in notes


@pytest.mark.guest
def test_files_are_counted_and_the_disks_are_as_they_were(run: Run):
    assert run.content.files > MANY
    assert run.disks_unchanged


@pytest.mark.guest
def test_clean_guest_has_packages_and_nothing_to_find(served_sample: DiskSource):
    content = scan([served_sample], PATIENT)
    assert [each for each in content.findings if each.severity == Severity.FINDING] == []
    assert (content.facts.distro, content.facts.package_format, content.findings) == ("debian", "deb", ())
    assert {"base-files", "dropbear-bin", "libc6"} <= {each.name for each in content.packages}
    assert {(each.source, each.kind) for each in content.packages if each.name == "libc6"} == {("glibc", "deb")}


@pytest.mark.guest
def test_disk_without_a_system_has_one_finding(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(2 << 20))
    content = scan([DiskSource(disk)], PATIENT)
    assert [each.code for each in content.findings] == ["os.none"]
    assert content.facts.reason == "no operating system was found on the disk"


@pytest.mark.guest
def test_scan_out_of_time_is_the_hosts_fault(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(2 << 20))
    with pytest.raises(HostUnavailable, match="took more than 1 s"):
        scan([DiskSource(disk)], InspectionLimits(kvm=False, timeout_seconds=1))


def test_scan_of_nothing_is_a_mistake():
    with pytest.raises(ValueError, match="without a disk"):
        scan([], PATIENT)
