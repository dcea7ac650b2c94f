"""Boot checks of small real disks, and of the sample guest; nothing of them stays."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.accelerator import Accelerator
from tasks.engine.guests.backing import AnyBacking, Backing, FileBacking
from tasks.engine.guests.boot_check import CHECK_PREFIX, BootCheck, boot_check
from tasks.engine.guests.boot_evidence import BootLevel
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.screenshot import PNG_SIGNATURE


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


TCG = Accelerator("tcg", "chosen by the test")


@pytest.fixture
def check(uri: str, folder: Path) -> BootCheck:
    return BootCheck(uri=uri, scratch=folder, accelerator=TCG, timeout_seconds=180, quiet_seconds=60)


def checks(hypervisor: Hypervisor, folder: Path) -> list[str]:
    """The throwaway guests of this test, among those that others may run."""
    found = []
    for domain in hypervisor.connection.listAllDomains():
        with suppress(libvirt.libvirtError):  # it may end while it is looked at
            found += [text for text in [domain.XMLDesc()] if CHECK_PREFIX in text and str(folder) in text]
    return found


@pytest.fixture(autouse=True)
def _nothing_stays(hypervisor: Hypervisor, folder: Path):
    yield
    assert checks(hypervisor, folder) == []
    assert list(folder.glob("boot-*")) == []


def empty_disk(folder: Path) -> AnyBacking:
    path = folder / "empty.raw"
    with path.open("wb") as disk:
        disk.truncate(8 << 20)
    return FileBacking(path=path, virtual_size=8 << 20)


@pytest.mark.guest
@pytest.mark.parametrize("mode", ["bios", "uefi"])
def test_disk_without_anything_to_boot_is_none(check: BootCheck, folder: Path, mode):
    evidence = boot_check([empty_disk(folder)], BootCheck(**{**vars(check), "boot_mode": mode}))
    assert evidence.level is BootLevel.NONE
    assert evidence.seconds < 60
    assert "No bootable device" in evidence.console_tail or "UEFI Interactive Shell" in evidence.console_tail


@pytest.mark.guest
def test_boot_loader_that_reads_on_is_disk(check: BootCheck, reader: FileBacking):
    evidence = boot_check([reader], BootCheck(**{**vars(check), "timeout_seconds": 4}))
    assert evidence.level is BootLevel.DISK
    assert evidence.screenshot_png is not None
    assert evidence.screenshot_png.startswith(PNG_SIGNATURE)


@pytest.mark.guest
def test_sample_guest_answers_by_its_agent(check: BootCheck, sample: FileBacking):
    seen: list[BootLevel] = []
    evidence = boot_check([sample], check, progress=lambda level, _seconds: seen.append(level))
    assert evidence.level is BootLevel.AGENT
    assert (evidence.agent.id, evidence.agent.machine) == ("debian", "x86_64")
    assert "boot-check login:" in evidence.console_tail
    assert BootLevel.KERNEL in seen


@pytest.mark.guest
def test_export_that_nobody_serves_is_the_hosts_fault(check: BootCheck, folder: Path):
    absent = Backing(socket=folder / "absent.sock", export="x", virtual_size=8 << 20)
    with pytest.raises(HostUnavailable) as failure:
        boot_check([absent], check)
    assert failure.value.code == "host.guest"


@pytest.mark.guest
def test_failure_in_the_middle_ends_the_guest(check: BootCheck, reader: FileBacking):
    def stop(_level: BootLevel, _seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boot_check([reader], check, progress=stop)


@pytest.mark.guest
def test_killed_owner_takes_its_guest_along(check: BootCheck, reader: FileBacking, hypervisor: Hypervisor, folder: Path):
    owner = multiprocessing.get_context("spawn").Process(target=boot_check, args=([reader], check))
    owner.start()
    wait_until(lambda: len(checks(hypervisor, folder)) == 1)
    owner.kill()
    owner.join()
    wait_until(lambda: checks(hypervisor, folder) == [])
    shutil.rmtree(next(folder.glob("boot-*")))  # what a killed process cannot remove


@pytest.mark.guest
def test_raw_disk_that_looks_like_qcow2_stays_raw(check: BootCheck, folder: Path):
    path = folder / "disguised.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", path, "9M"], check=True)
    with path.open("r+b") as disk:
        disk.truncate(8 << 20)
    evidence = boot_check([FileBacking(path=path, virtual_size=8 << 20)], check)
    assert evidence.level is BootLevel.NONE
