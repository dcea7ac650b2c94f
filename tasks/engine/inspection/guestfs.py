"""Finding the operating system on a disk with libguestfs, in a child process that is limited and always ended.

The disk can make inspection fail or hang; it then is of an unknown system, with the reason. Only a host that cannot inspect
at all raises. The child's half is `guestfs_child`, how it is run `appliance`; whether a disk can boot is `sniff`'s question.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection.appliance import InspectionLimits as InspectionLimits
from tasks.engine.inspection.appliance import ask_child, does_not_start, reason_of
from tasks.engine.inspection.facts import OsFacts, clean

_CHILD = "tasks.engine.inspection.guestfs_child"
_OVERLAY_SECONDS = 30.0


@dataclass(frozen=True)
class DiskSource:
    """A raw disk: a local file, or with `export` the NBD export of that name on the unix socket `path`."""

    path: Path
    export: str = ""


def inspect(disks: Sequence[DiskSource], limits: InspectionLimits) -> OsFacts:
    """The operating system on `disks`, which are opened read-only as raw and never probed for a format.

    Raises HostUnavailable where libguestfs itself does not work here or a disk is not being served.
    """
    answer = ask_about(_CHILD, disks, limits)
    if "facts" in answer:
        return OsFacts.from_json(answer["facts"])
    return OsFacts(reason=reason_of(answer))


def ask_about(module: str, disks: Sequence[DiskSource], limits: InspectionLimits) -> dict[str, Any]:
    """What the child `module` tells of throwaway overlays over the disks. HostUnavailable where libguestfs did not start."""
    with tempfile.TemporaryDirectory(prefix="ims-guestfs-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        overlays = [_overlay(disk, folder / f"{index}.qcow2") for index, disk in enumerate(disks)]
        answer = ask_child(module, {"overlays": overlays}, limits, folder=folder)
    if "launched" not in answer:
        raise does_not_start(answer)
    return answer


def warm_appliance(limits: InspectionLimits) -> None:
    """Build and start libguestfs's appliance once, so that the first inspection need not; HostUnavailable says what lacks."""
    inspect([], limits)


def _overlay(disk: DiskSource, path: Path) -> str:
    """A throwaway overlay over the disk, which its header declares raw.

    libguestfs's own read-only drives must not be used: they leave the format of what they protect to QEMU's probing, so that
    a guest that writes a qcow2 header into its first sector could name any file of the host as its backing file.
    """
    base = f"nbd+unix:///{quote(disk.export, safe='')}?socket={quote(str(disk.path))}" if disk.export else str(disk.path)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_OVERLAY_SECONDS)
    except FileNotFoundError as error:
        raise HostUnavailable("tool_missing", "qemu-img is not installed", remedy="Run `make setup`.") from error
    except subprocess.CalledProcessError as error:
        raise HostUnavailable("inspection", f"the disk cannot be opened: {clean(error.stderr.decode(), limit=300)}") from error
    except subprocess.TimeoutExpired as error:
        raise HostUnavailable("inspection", "the disk does not answer") from error
    return str(path)
