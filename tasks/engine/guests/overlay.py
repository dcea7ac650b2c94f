"""The files of one guest on this host: its folder and the qcow2 overlays in it. The base disks are elsewhere (`backing`).

A folder is IMS_HOME/ecs/<id>, mode 0711: QEMU's own user can open a file that libvirt hands it and nobody can list it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tasks.engine.errors import HostUnavailable, RequestRefused
from tasks.engine.geometry import SECTOR_SIZE
from tasks.engine.guests.backing import AnyBacking
from tasks.engine.guests.command import run


@dataclass(frozen=True)
class EcsFiles:
    """Where the parts of one ECS lie on this host."""

    folder: Path

    @property
    def seed(self) -> Path:
        return self.folder / "seed.iso"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def screenshot(self) -> Path:
        return self.folder / "screenshot.png"

    @property
    def debt(self) -> Path:
        """What a capture owes the guest (`watch`)."""
        return self.folder / "capture.json"

    def overlay(self, index: int) -> Path:
        return self.folder / f"disk-{index}.qcow2"


def ecs_files(ecs_folder: Path, ecs_id: UUID) -> EcsFiles:
    """The files of an ECS below `settings.ecs_folder`; nothing is made."""
    return EcsFiles(ecs_folder / str(ecs_id))


def folders_by_id(parent: Path) -> dict[UUID, Path]:
    """The folders below `parent` that are named by an id, as those of ECSs and of operations are."""
    found = {_uuid(path.name): path for path in parent.glob("*-*-*-*-*") if path.is_dir()}
    return {each: path for each, path in found.items() if each is not None}


def _uuid(name: str) -> UUID | None:
    try:
        found = UUID(name)
    except ValueError:
        return None
    return found if str(found) == name else None  # UUID() also takes other spellings


def make_folder(files: EcsFiles) -> None:
    """Make the folder of an ECS; a second call changes nothing."""
    files.folder.mkdir(parents=True, exist_ok=True)
    files.folder.chmod(0o711)


def remove_folder(files: EcsFiles) -> None:
    """Remove everything an ECS has on this host; a second call changes nothing."""
    shutil.rmtree(files.folder, ignore_errors=True)
    if files.folder.exists():
        raise HostUnavailable("files", f"{files.folder} could not be removed", remedy="Look at its permissions.")


def create_overlay(path: Path, *, backing: AnyBacking | None, virtual_size: int) -> None:
    """A new overlay of `virtual_size` bytes over `backing`, or an empty disk; it appears complete or not at all.

    The base is not opened: libvirt is told its format and address, so a launch costs the same for any size of disk.
    """
    least = backing.virtual_size if backing else 1
    if virtual_size < least or virtual_size % SECTOR_SIZE:
        needed = f"at least {least} bytes and a multiple of {SECTOR_SIZE}"
        raise RequestRefused("disk_size", f"the disk must have {needed}, not {virtual_size}")
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    base = ["-u", "-b", backing.address, "-F", "raw"] if backing else []
    run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(partial), str(virtual_size)])
    partial.chmod(0o600)
    os.replace(partial, path)
