"""A throwaway boot of a disk, without network, to see whether it comes to life; what counts as life is in `boot_evidence`.

The guest is transient and bound to this process's connection: libvirt ends it when the check ends, fails or is killed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import libvirt

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.accelerator import Accelerator
from tasks.engine.guests.agent import AgentFacts, os_facts, ping
from tasks.engine.guests.backing import AnyBacking
from tasks.engine.guests.boot_evidence import BootEvidence, BootLevel, Observation, firmware_gave_up, level_of
from tasks.engine.guests.console import MAX_TAIL, console_tail
from tasks.engine.guests.domain_xml import BootMode, DiskSpec, DomainSpec, domain_xml, target_name
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls
from tasks.engine.guests.overlay import EcsFiles, create_overlay
from tasks.engine.guests.screenshot import screenshot_png
from tasks.engine.guests.seed import Seed, write_seed

CHECK_PREFIX = "ims-check-"
TAIL_BYTES = 16 << 10
WRITE_BYTES_PER_SECOND = 32 << 20
"""Bounds what a guest can write into the scratch folder before its time is up."""

_POLL_SECONDS = 0.5
_AGENT_GRACE_SECONDS = 5.0

Progress = Callable[[BootLevel, float], None]


@dataclass(frozen=True, kw_only=True)
class BootCheck:
    """How to run the throwaway guest. QEMU's user must be able to enter `scratch`."""

    uri: str
    scratch: Path
    accelerator: Accelerator
    boot_mode: BootMode = "bios"
    memory_mib: int = 1024
    vcpus: int = 1
    timeout_seconds: float = 300
    quiet_seconds: float = 60
    """How long a guest that showed some life may neither write nor read before the check ends; half of it without life."""


def boot_check(disks: Sequence[AnyBacking], check: BootCheck, *, progress: Progress | None = None) -> BootEvidence:
    """Boot from the first of `disks` and watch until it is plainly alive, plainly dead, silent for long, or out of time.

    Writes go to overlays that are thrown away. Raises HostUnavailable where the host, not the disk, is at fault.
    """
    with _throwaway_guest(disks, check) as (domain, files):
        watch = _Watch(domain, files, check, disks=len(disks))
        while not watch.finished():
            if progress is not None:
                progress(watch.level, watch.elapsed)
            time.sleep(_POLL_SECONDS)
        return watch.evidence()


@contextmanager
def _throwaway_guest(disks: Sequence[AnyBacking], check: BootCheck) -> Iterator[tuple[Any, EcsFiles]]:
    guest_id = uuid4()
    check.scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=check.scratch, prefix="boot-", ignore_cleanup_errors=True) as folder,
        Hypervisor(check.uri) as hypervisor,
    ):
        files = EcsFiles(Path(folder))
        files.folder.chmod(0o711)
        spec = _spec(disks, check, files, guest_id)
        with libvirt_calls("starting a boot check"):
            domain = hypervisor.connection.createXML(domain_xml(spec), libvirt.VIR_DOMAIN_START_AUTODESTROY)
        try:
            yield domain, files
        finally:
            _end(domain)


def _spec(disks: Sequence[AnyBacking], check: BootCheck, files: EcsFiles, guest_id: UUID) -> DomainSpec:
    """The seed spares cloud-init its search for a metadata server that is not there."""
    write_seed(files.seed, Seed(instance_id=guest_id, hostname="boot-check"))
    for index, disk in enumerate(disks):
        create_overlay(files.overlay(index), backing=disk, virtual_size=disk.virtual_size)
    return DomainSpec(
        ecs_id=guest_id,
        name=f"{CHECK_PREFIX}{guest_id}",
        disks=[
            DiskSpec(overlay=files.overlay(index), backing=disk, write_bytes_per_second=WRITE_BYTES_PER_SECOND)
            for index, disk in enumerate(disks)
        ],
        console=files.console,
        seed=files.seed,
        kvm=check.accelerator.kind == "kvm",
        memory_mib=check.memory_mib,
        vcpus=check.vcpus,
        boot_mode=check.boot_mode,
        network=False,
        nvram=files.folder / "nvram.fd" if check.boot_mode == "uefi" else None,
        firmware_on_serial=True,
    )


def _end(domain: Any) -> None:
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        # It ended by itself, or libvirtd went away and takes the guest with the connection.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
            raise HostUnavailable("guest", f"a boot check's guest could not be ended: {error}") from error


class _Watch:
    """The course of one boot: the best level so far, and when anything last happened."""

    def __init__(self, domain: Any, files: EcsFiles, check: BootCheck, *, disks: int) -> None:
        self.level = BootLevel.NONE
        self._domain, self._files, self._check = domain, files, check
        self._uefi = check.boot_mode == "uefi"
        self._targets = [target_name(index) for index in range(disks)]
        self._began = self._changed_at = time.monotonic()
        self._reached_at = 0.0
        self._last = Observation(console="", bytes_read=0, uefi=self._uefi)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def finished(self) -> bool:
        """Look once; True when nothing more is to be learned."""
        if not self._running():
            return True
        seen = self._observe()
        if seen != self._last:
            self._last, self._changed_at = seen, time.monotonic()
        self._reach(level_of(seen))
        if ping(self._domain):
            self._reach(BootLevel.AGENT)
            return True
        if firmware_gave_up(seen) and self.level.rank <= BootLevel.DISK.rank:
            self.level = BootLevel.NONE
            return True
        return self.elapsed > self._check.timeout_seconds or self._quiet()

    def evidence(self) -> BootEvidence:
        """What was seen, with a last look at screen and agent."""
        alive = self._running()
        return BootEvidence(
            level=self.level,
            seconds=round(self._reached_at or self.elapsed, 1),
            console_tail=console_tail(self._files.console, max_bytes=TAIL_BYTES),
            screenshot_png=self._screenshot() if alive else None,
            accelerator=self._check.accelerator.kind,
            agent=os_facts(self._domain) if alive and self.level is BootLevel.AGENT else AgentFacts(),
        )

    def _reach(self, level: BootLevel) -> None:
        if level.rank > self.level.rank:
            self.level, self._reached_at, self._changed_at = level, self.elapsed, time.monotonic()

    def _quiet(self) -> bool:
        """A login needs no silence, only the agent's grace."""
        if self.level is BootLevel.LOGIN:
            return self.elapsed - self._reached_at > _AGENT_GRACE_SECONDS
        patience = self._check.quiet_seconds / (2 if self.level is BootLevel.NONE else 1)
        return time.monotonic() - self._changed_at > patience

    def _observe(self) -> Observation:
        text = console_tail(self._files.console, max_bytes=MAX_TAIL)
        try:
            read = sum(self._domain.blockStats(target)[1] for target in self._targets)
        except libvirt.libvirtError:
            read = self._last.bytes_read  # the guest has just ended; the next look says so
        return Observation(console=text, bytes_read=read, uefi=self._uefi)

    def _running(self) -> bool:
        """Whether the guest is up; one that was stopped or crashed by its host says nothing about its disk."""
        try:
            code, reason = self._domain.state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return False
            raise HostUnavailable("libvirt", f"the boot check lost its guest: {error}") from error
        if code == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            raise HostUnavailable("backing", "the boot check was stopped by an I/O error of its disk",
                                  remedy="Is the host's NBD server up and its disk not full?")  # fmt: skip
        if code in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_CRASHED):
            raise HostUnavailable("accelerator", f"the boot check's guest died under {self._check.accelerator.kind}",
                                  remedy="Try IMS_ACCELERATOR=tcg.")  # fmt: skip
        return bool(code == libvirt.VIR_DOMAIN_RUNNING)

    def _screenshot(self) -> bytes | None:
        try:
            return screenshot_png(self._domain)
        except HostUnavailable:
            return None
