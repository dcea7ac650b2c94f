"""Steps that look at a stored disk before its image becomes active: which system is on it, and whether it boots.

Both read the disk as an ECS would, through this host's NBD server, so that what was stored is what is judged.
"""

from __future__ import annotations

import base64

from prefect import task

from models.facts import BootReport, GuestFacts
from models.image_changes import record_boot, record_guest
from models.images import own_image
from models.known import known_guest
from models.tables import Disk, Image
from models.vocabulary import Architecture, BootMode, BootProof, DiskKind
from tasks.disks import boot_layout
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.errors import BootRefused
from tasks.engine.guests.accelerator import Accelerator, choose_accelerator
from tasks.engine.guests.boot_check import BootCheck, boot_check
from tasks.engine.guests.boot_evidence import BootEvidence, BootLevel
from tasks.engine.inspection.facts import UNKNOWN, OsFacts
from tasks.engine.inspection.guestfs import DiskSource, InspectionLimits, inspect
from tasks.engine.settings import load_settings
from tasks.exports import backing_of, require_server
from tasks.policies import RETRIED
from tasks.progress import log
from tasks.resources import catalog
from tasks.sagas import Saga

MAX_SCREENSHOT = 512 << 10
ARCHITECTURES = {
    "x86_64": Architecture.X86_64,
    "i386": Architecture.I686,
    "i686": Architecture.I686,
    "aarch64": Architecture.AARCH64,
}
"""libguestfs's names of what the catalog knows."""


@task(**RETRIED, task_run_name="inspect disk")
def inspect_image(saga: Saga, image_id: str) -> GuestFacts:
    """Which system is on the image's system disk; nothing where it has none or nothing is recognised."""
    with catalog() as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        disk = _system_disk(image)
        known = known_guest(session, digest=disk.digest or "") if disk else None
    facts = known or (_inspect(disk) if disk else GuestFacts())
    with catalog(write=True) as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        record_guest(session, image=image, detected=facts)
    return facts


@task(**RETRIED, task_run_name="boot check")
def check_boot(saga: Saga, image_id: str) -> BootProof:
    """Boot the system disk in a throwaway guest without network. Raises BootRefused when it shows no sign of life."""
    with catalog() as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        disk = _system_disk(image)
    if disk is None:
        return BootProof.UNCHECKED
    mode, evidence = _best_boot(image, disk)
    with catalog(write=True) as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        record_boot(session, image=image, report=BootReport(BootProof(evidence.level.value), _detail(mode, evidence)))
        if evidence.level is not BootLevel.NONE:
            record_guest(session, image=image, detected=_proved(image, mode))
    if evidence.level is BootLevel.NONE:
        last = evidence.console_tail.strip().splitlines()[-1:] or ["nothing on its console"]
        raise BootRefused("none", f"the disk did not boot in {evidence.seconds:.0f} s: {last[0][:200]}", remedy=_REMEDY)
    return BootProof(evidence.level.value)


_REMEDY = "Check that it is a bootable system disk for this architecture, or import with --verify none."


def accelerator() -> Accelerator:
    """What guests run on here; proved once a host."""
    settings = load_settings()
    return choose_accelerator(settings.accelerator, home=settings.home)


def _best_boot(image: Image, disk: Disk) -> tuple[BootMode, BootEvidence]:
    """Try the likely firmware first, the other one where that shows nothing."""
    return max(_boots(image, disk), key=lambda outcome: outcome[1].level.rank)


def _boots(image: Image, disk: Disk) -> list[tuple[BootMode, BootEvidence]]:
    settings = load_settings()
    require_server()
    tried: list[tuple[BootMode, BootEvidence]] = []
    for mode in _boot_modes(image, disk):
        check = BootCheck(
            uri=settings.libvirt_uri,
            scratch=settings.ecs_folder,
            accelerator=accelerator(),
            boot_mode=mode.value,
            memory_mib=max(1024, image.min_memory_mib),
            timeout_seconds=settings.boot_timeout_seconds,
        )
        teller = _Teller()
        evidence = boot_check([backing_of(disk)], check, progress=teller)
        teller(evidence.level, evidence.seconds)
        tried.append((mode, evidence))
        if evidence.level.rank > BootLevel.DISK.rank:
            break
    return tried


class _Teller:
    """Says each level once, when it is reached."""

    def __init__(self) -> None:
        self._last = BootLevel.NONE

    def __call__(self, level: BootLevel, seconds: float) -> None:
        if level is not self._last:
            self._last = level
            log.info("Boot check: %s after %.0f s", level.value, seconds)


def _boot_modes(image: Image, disk: Disk) -> list[BootMode]:
    if image.declared.get("boot_mode"):
        return [BootMode(image.declared["boot_mode"])]
    layout = boot_layout(ManifestDigest(disk.digest or ""))
    if layout.boot_mode == "uefi":
        return [BootMode.UEFI]
    return [BootMode.BIOS, BootMode.UEFI] if layout.has_esp else [BootMode.BIOS]


def _proved(image: Image, mode: BootMode) -> GuestFacts:
    """What was detected, with the boot mode that worked."""
    return GuestFacts.model_validate({**image.detected, "boot_mode": mode})


def _detail(mode: BootMode, evidence: BootEvidence) -> dict[str, object]:
    picture = evidence.screenshot_png
    return {
        "boot_mode": mode.value,
        "seconds": evidence.seconds,
        "accelerator": evidence.accelerator,
        "console_tail": evidence.console_tail,
        "screenshot_png": base64.b64encode(picture).decode() if picture and len(picture) <= MAX_SCREENSHOT else None,
    }


def _system_disk(image: Image) -> Disk | None:
    return next((disk for disk in image.disks if disk.kind is DiskKind.SYSTEM), None)


def _inspect(disk: Disk) -> GuestFacts:
    require_server()
    source = DiskSource(load_settings().exports_socket, export=disk.digest or "")
    found = inspect([source], InspectionLimits(kvm=accelerator().kind == "kvm"))
    facts = guest_facts(found)
    known = " ".join(filter(None, (facts.os_distro, facts.os_version, facts.architecture)))
    log.info("Inspection: %s", known if found.known else found.reason)
    return facts


def guest_facts(found: OsFacts) -> GuestFacts:
    """What libguestfs found, in the catalog's words."""
    version = f"{found.major}.{found.minor}" if found.minor else str(found.major)
    return GuestFacts(
        os_type=_said(found.type, limit=32),
        os_distro=_said(found.distro, limit=64),
        os_version=version if found.major else None,
        architecture=ARCHITECTURES.get(found.architecture),
    )


def _said(text: str, *, limit: int) -> str | None:
    return None if text == UNKNOWN else text[:limit]
