"""The child process that talks to libguestfs: a request as JSON on stdin, one JSON object a line on stdout.

libguestfs mounts the disk inside its own small virtual machine. `guestfs` is the parent that limits and ends this process.
`generalize_child` shares the conversation and the look at the system.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import guestfs

from tasks.engine.inspection.facts import MAX_FILESYSTEMS, OsFacts

MEMORY_MIB = 512
PR_SET_PDEATHSIG = 1


FAILURES = (RuntimeError, UnicodeError)
"""The binding's only exception, and what it raises for a guest's text that is not UTF-8."""

Work = Callable[[Any, dict[str, Any]], dict[str, object]]
"""What is done with a launched handle and the request; gives what is to be told."""


def main() -> None:
    """The facts of the system on the disks; of nothing where there are none."""
    serve(lambda handle, request: {"facts": (inspect_disks(handle) if request["overlays"] else OsFacts()).as_json()})


def serve(work: Work) -> None:
    """Launch, tell so, work, tell its outcome; a failure is told as an error."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent ends the appliance by it, this process then tidies up
    request = json.load(sys.stdin)
    try:
        handle = _launch(request["overlays"])
        _tell(launched=True)
        _tell(**work(handle, request))
        handle.close()
    except FAILURES as error:
        _tell(error=str(error)[:400])


def _tell(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _launch(overlays: list[str]) -> Any:
    """One virtual processor: under TCG a second one makes the appliance slower."""
    handle = guestfs.GuestFS(python_return_dict=True, close_on_exit=True)
    handle.set_memsize(MEMORY_MIB)
    handle.set_smp(1)
    handle.set_network(False)
    for overlay in overlays:
        handle.add_drive_opts(overlay, format="qcow2")
    if not overlays:
        handle.add_drive_scratch(1 << 20)
    handle.launch()
    return handle


def inspect_disks(handle: Any) -> OsFacts:
    """What libguestfs finds out about the first system on the disks; nothing stays mounted."""
    roots = handle.inspect_os()
    if not roots:
        found = handle.list_filesystems()
        return OsFacts.from_json({"filesystems": _typed(found), "reason": "no operating system was found on the disk"})
    root = roots[0]
    return OsFacts.from_json(
        {
            "type": _ask(handle.inspect_get_type, root),
            "distro": _ask(handle.inspect_get_distro, root),
            "major": _ask(handle.inspect_get_major_version, root),
            "minor": _ask(handle.inspect_get_minor_version, root),
            "product_name": _ask(handle.inspect_get_product_name, root),
            "architecture": _ask(handle.inspect_get_arch, root),
            "hostname": _ask(handle.inspect_get_hostname, root),
            "osinfo": _ask(handle.inspect_get_osinfo, root),
            "package_format": _ask(handle.inspect_get_package_format, root),
            "filesystems": _root_filesystems(handle, root),
        }
    )


def _root_filesystems(handle: Any, root: str) -> list[dict[str, object]]:
    devices = (_ask(handle.inspect_get_filesystems, root) or [])[:MAX_FILESYSTEMS]
    return _typed({device: _ask(handle.vfs_type, device) for device in devices})


def _typed(types: dict[str, Any]) -> list[dict[str, object]]:
    return [{"device": device, "type": kind} for device, kind in types.items()]


def _ask(question: Callable[[str], Any], about: str) -> Any:
    """One fact, or None: a disk may answer some and break on others."""
    try:
        return question(about)
    except FAILURES:
        return None


if __name__ == "__main__":
    main()
