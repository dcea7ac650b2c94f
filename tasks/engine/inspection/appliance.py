"""Running a child process that uses libguestfs: its environment, its time, its end with all that it started.

What the child does is its own module's business: `guestfs_child` inspects, `generalize_child` generalises. libguestfs itself
is never loaded into this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.errors import HostUnavailable
from tasks.engine.inspection.facts import clean

_CLEAN_UP_SECONDS = 30.0
"""libguestfs removes its own files, which takes a busy machine a while; it seldom takes one."""
_LONGEST_FOLDER = 72
"""Bytes; what a UNIX socket's address, 107 bytes, leaves below it for libguestfs's own folder and names."""
_REMEDY = "Run `make setup`; `libguestfs-test-tool` shows more."


@dataclass(frozen=True, kw_only=True)
class InspectionLimits:
    """`kvm` only where it is proved on this host. A small system takes 20 s under TCG on an idle machine."""

    kvm: bool
    timeout_seconds: float = 240


def ask_child(module: str, request: dict[str, Any], limits: InspectionLimits, *, folder: Path) -> dict[str, Any]:
    """Everything the child `module` told, merged; the last word of a child that ran out of time is an error and `late`."""
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment(folder, kvm=limits.kvm),
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


def reason_of(answer: Mapping[str, Any]) -> str:
    """Why the child did not do what it was asked, as one clean line."""
    return clean(answer.get("error") or "the inspection ended without an answer", limit=300)


def does_not_start(answer: Mapping[str, Any]) -> HostUnavailable:
    """The failure of a child that never got as far as a running appliance."""
    return HostUnavailable("inspection", f"libguestfs does not start: {reason_of(answer)}", remedy=_REMEDY)


def environment(folder: Path, *, kvm: bool) -> dict[str, str]:
    """Nothing of this process's environment but where tools are: it may hold secrets."""
    given = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    given |= {"LC_ALL": "C.UTF-8", "TMPDIR": str(folder), "LIBGUESTFS_BACKEND": "direct"}
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER:  # or else its sockets stay in /tmp when it is killed
        given["XDG_RUNTIME_DIR"] = str(folder)
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
    late = {"error": f"the inspection took more than {timeout_seconds:.0f} s", "late": True}
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
