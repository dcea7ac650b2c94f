"""Finding the operating system on a disk with libguestfs, in a child process that is limited and always ended.

The disk can make inspection fail or hang; it then is of an unknown system, with the reason. Only a host that cannot inspect
at all raises. The child's half is `guestfs_child`; whether a disk can boot is `sniff`'s question.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection.facts import OsFacts, clean

_CLEAN_UP_SECONDS = 5.0
_OVERLAY_SECONDS = 30.0
_REMEDY = "Run `make setup`; `libguestfs-test-tool` shows more."


@dataclass(frozen=True)
class DiskSource:
    """A raw disk: a local file, or with `export` the NBD export of that name on the unix socket `path`."""

    path: Path
    export: str = ""


@dataclass(frozen=True, kw_only=True)
class InspectionLimits:
    """`kvm` only where it is proved on this host. A small system takes 20 s under TCG on an idle machine."""

    kvm: bool
    timeout_seconds: float = 240


def inspect(disks: Sequence[DiskSource], limits: InspectionLimits) -> OsFacts:
    """The operating system on `disks`, which are opened read-only as raw and never probed for a format.

    Raises HostUnavailable where libguestfs itself does not work here or a disk is not being served.
    """
    with tempfile.TemporaryDirectory(prefix="ims-guestfs-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        overlays = [_overlay(disk, folder / f"{index}.qcow2") for index, disk in enumerate(disks)]
        answer = _ask_child({"overlays": overlays}, limits, folder=folder)
    if "facts" in answer:
        return OsFacts.from_json(answer["facts"])
    reason = clean(answer.get("error") or "the inspection ended without an answer", limit=300)
    if "launched" in answer:
        return OsFacts(reason=reason)
    raise HostUnavailable("inspection", f"libguestfs does not start: {reason}", remedy=_REMEDY)


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


def _ask_child(request: dict[str, Any], limits: InspectionLimits, *, folder: Path) -> dict[str, Any]:
    """Everything the child told, merged; the last word of a child that ran out of time is an error."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tasks.engine.inspection.guestfs_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=_environment(folder, kvm=limits.kvm),
        start_new_session=True,
    )
    try:
        said, complaint = _communicate(child, json.dumps(request).encode(), limits.timeout_seconds)
    finally:
        _end_group(child)
    answer = _merge(said)
    if not answer and complaint:
        answer["error"] = complaint.decode(errors="replace").strip().rpartition("\n")[2]
    return answer


def _environment(folder: Path, *, kvm: bool) -> dict[str, str]:
    """Nothing of this process's environment but where tools are: it may hold secrets."""
    given = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    given |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(folder), "LIBGUESTFS_BACKEND": "direct"}
    return given if kvm else given | {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}


def _communicate(child: subprocess.Popen[bytes], request: bytes, timeout_seconds: float) -> tuple[bytes, bytes]:
    """The child's output; when time is up its appliance is ended first, so that libguestfs removes its own files."""
    try:
        return child.communicate(request, timeout=timeout_seconds)
    except subprocess.TimeoutExpired as expired:
        said = expired.output or b""
    os.killpg(child.pid, signal.SIGTERM)  # which the child itself ignores
    with suppress(subprocess.TimeoutExpired):
        said, _ = child.communicate(timeout=_CLEAN_UP_SECONDS)
    late = {"error": f"the inspection took more than {timeout_seconds:.0f} s"}
    return said + json.dumps(late).encode(), b""


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """The whole group, the appliance included, whether or not the child went first."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _merge(said: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for line in said.splitlines():
        with suppress(ValueError):
            answer |= json.loads(line)
    return answer
