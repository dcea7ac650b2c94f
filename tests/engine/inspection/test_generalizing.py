"""Generalising by the real libguestfs: one run over a guest with planted traces and traps, which most tests then look at."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.sample_guest.disk import MIB, ROOT_START
from tasks.engine.errors import CaptureRefused, HostUnavailable
from tasks.engine.inspection.generalizing import Generalized, Removed, generalize
from tasks.engine.inspection.guest_files import Budget, Notes
from tasks.engine.inspection.guestfs import InspectionLimits

PATIENT = InspectionLimits(kvm=False, timeout_seconds=240)
CLUSTER = 64 << 10
MAX_CLUSTERS = 25
"""Of 64 KiB: the run below writes 14, most of them the file system's own tables and its journal."""

TRACES = {
    "/etc/ssh/ssh_host_ed25519_key": "ssh-hostkeys",
    "/etc/machine-id": "machine-id",
    "/var/lib/dbus/machine-id": "machine-id",
    "/var/lib/cloud/instances/i-1/user-data.txt": "cloud-init",
    "/var/lib/systemd/random-seed": "random-seed",
    "/var/lib/dhcp/dhclient.leases": "dhcp-client-state",
    "/root/.bash_history": "bash-history",
    "/home/ims/.zsh_history": "bash-history",
    "/var/log/app.log": "logfiles",
    "/var/log/app/app.log.1.gz": "logfiles",
    "/var/log/journal/1/system.journal": "logfiles",
    "/var/log/lastlog": "logfiles",
    "/tmp/folder/.hidden": "tmp-files",
}
EMPTIED = ("/etc/machine-id", "/var/log/app.log", "/var/log/lastlog")
KEPT = ("/home/ims/.ssh/authorized_keys", "/etc/.bash_history", "/etc/two-names")
SPARSE = "/var/log/lastlog"
SPARSE_SIZE = 20 * MIB


def text_of(path: str) -> bytes:
    return f"planted in {path};".encode() * 40


@dataclass(frozen=True, kw_only=True)
class Run:
    """One generalising: `after` is the guest's raw disk as the overlay has it."""

    done: Generalized
    overlay: Path
    after: Path
    base_unchanged: bool


def debugfs(disk: Path, script: str, *options: str) -> str:
    command = ["debugfs", *options, "-f", "-", f"{disk}?offset={ROOT_START}"]
    told = subprocess.run(
        command, input=script.encode("latin-1"), check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ).stdout
    return told.decode(errors="replace")


def plant(disk: Path, folder: Path) -> None:
    """The traces and what must stay; links and names that would lead a careless hand astray."""
    script = ["rm /etc/machine-id"]
    for number, path in enumerate((*TRACES, *KEPT)):
        source = folder / f"planted-{number}"
        source.write_bytes(text_of(path))
        if path == SPARSE:
            source.write_bytes(b"")
            with source.open("r+b") as file:
                file.seek(SPARSE_SIZE - len(text_of(path)))
                file.write(text_of(path))
        script += [f"mkdir {parent}" for parent in reversed(Path(path).parents)][1:]
        script += [f"write {source} {path}"]
    script += ["symlink /var/log/x /etc/passwd", "symlink /home/evil /etc", "symlink /var/lib/cloud/instance instances/i-1"]
    script += ["ln /etc/two-names /tmp/two-names", "set_inode_field /etc/two-names links_count 2", "mkdir /tmp/\xff"]
    debugfs(disk, "\n".join(script) + "\n", "-w")


def overlay_over(disk: Path) -> Path:
    overlay = disk.with_suffix(".qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay], check=True)
    return overlay


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def run(sample_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("generalize")
    disk = Path(shutil.copyfile(sample_disk, folder / "guest.raw"))
    plant(disk, folder)
    before, overlay, after = digest(disk), overlay_over(disk), folder / "after.raw"
    done = generalize([overlay], PATIENT)
    subprocess.run(["qemu-img", "convert", "-O", "raw", overlay, after], check=True)
    return Run(done=done, overlay=overlay, after=after, base_unchanged=digest(disk) == before)


def content(run: Run, path: str) -> str:
    return debugfs(run.after, f"cat {path}\n").partition("\n")[2]


@pytest.mark.guest
def test_system_is_recognised_on_the_way(run: Run):
    assert (run.done.facts.type, run.done.facts.distro, run.done.facts.hostname) == ("linux", "debian", "sample")


@pytest.mark.guest
def test_every_trace_is_reported_with_its_operation_and_size(run: Run):
    expected = {
        Removed(operation=operation, path=path, size=SPARSE_SIZE if path == SPARSE else len(text_of(path)))
        for path, operation in TRACES.items()
    }
    assert expected <= set(run.done.removed)
    assert run.done.more == 0


@pytest.mark.guest
def test_no_trace_is_left_anywhere_on_the_disk(run: Run):
    disk = run.after.read_bytes()
    assert [path for path in TRACES if text_of(path)[: len(path) + 12] in disk] == []


@pytest.mark.guest
@pytest.mark.parametrize("path", TRACES)
def test_trace_is_emptied_or_gone(run: Run, path: str):
    found = debugfs(run.after, f"stat {path}\n")
    assert ("Size: 0" in found) if path in EMPTIED else ("File not found" in found)


@pytest.mark.guest
@pytest.mark.parametrize("path", KEPT)
def test_keys_and_what_lies_behind_links_stay(run: Run, path: str):
    assert text_of(path).decode() in content(run, path)


@pytest.mark.guest
def test_link_among_the_logs_does_no_harm_to_its_target(run: Run):
    assert "ims:x:1000" in content(run, "/etc/passwd")
    assert "File not found" not in debugfs(run.after, "stat /var/log/x\n")


@pytest.mark.guest
def test_folders_that_the_guest_needs_stay_and_links_of_its_instance_go(run: Run):
    assert all("Type: directory" in debugfs(run.after, f"stat {each}\n") for each in ("/tmp", "/var/log/app", "/var/lib/cloud"))
    assert "File not found" in debugfs(run.after, "stat /var/lib/cloud/instance\n")


@pytest.mark.guest
def test_what_was_not_done_is_said(run: Run):
    assert set(run.done.skipped) == {
        "/home/evil: not looked at, it is a symbolic link",
        "/tmp/two-names: not overwritten, it has other names",
        "/tmp: 1 names not looked at, they are not UTF-8",
    }


@pytest.mark.guest
def test_base_is_untouched_and_the_overlay_small_and_sound(run: Run):
    assert run.base_unchanged
    assert run.overlay.stat().st_blocks * 512 < MAX_CLUSTERS * CLUSTER
    subprocess.run(["qemu-img", "check", "-q", run.overlay], check=True)
    subprocess.run(["e2fsck", "-f", "-n", f"{run.after}?offset={ROOT_START}"], check=True, capture_output=True)


@pytest.mark.guest
def test_disk_without_a_system_is_refused(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x00" * (2 << 20))
    with pytest.raises(CaptureRefused, match=r"no operating system was found on the disk.*--no-generalize") as refusal:
        generalize([overlay_over(disk)], PATIENT)
    assert refusal.value.code == "capture.generalize"


@pytest.mark.guest
def test_system_that_turns_out_read_only_is_refused(sample_disk: Path, tmp_path: Path):
    disk = Path(shutil.copyfile(sample_disk, tmp_path / "guest.raw"))
    debugfs(disk, "feature read-only\n", "-w")  # the kernel then mounts it, and says nothing
    with pytest.raises(CaptureRefused, match="can only be read"):
        generalize([overlay_over(disk)], PATIENT)


@pytest.mark.guest
def test_generalising_out_of_time_is_the_hosts_fault(tmp_path: Path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\x00" * (2 << 20))
    with pytest.raises(HostUnavailable, match="took more than 2 s"):
        generalize([overlay_over(disk)], InspectionLimits(kvm=False, timeout_seconds=2))


def test_budget_gives_what_is_left_and_nothing_when_time_is_up():
    budget = Budget(until=float("inf"), entries=10, bytes=100)
    assert [budget.take_entries(8), budget.take_entries(8), budget.take_bytes(60), budget.take_bytes(60)] == [8, 2, True, False]
    assert Budget(until=0).take_entries(1) == 0


def test_notes_say_a_thing_once_and_count_what_is_too_much():
    notes = Notes()
    for number in range(250):
        notes.add(f"/{number}\x1b[2J", "no")
        notes.add("/0\x1b[2J", "no")
    assert notes.as_list()[0] == "/0 [2J: no"
    assert notes.as_list()[-1] == "50 more"
