"""Which accelerator guests get on this host: KVM where it is proved by running it, TCG otherwise, and why.

A /dev/kvm that opens proves nothing: nested and emulated ones start guests that die in their firmware or kernel. The proof
is `accelerator_probe`'s boot sector under real firmware; its answer is remembered until host, kernel or QEMU change.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.accelerator_probe import EXIT_PORT, PROVED_STATUS, probe_disk
from tasks.engine.guests.command import end_group, run

QEMU = "qemu-system-x86_64"
PROOF_SECONDS = 8.0
Kind = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class Accelerator:
    """What guests run on, and a sentence that says why."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class _Host:
    """What the remembered answer depends on."""

    name: str
    kernel: str
    qemu: str


def choose_accelerator(wanted: Literal["auto", "kvm", "tcg"], *, home: Path) -> Accelerator:
    """The accelerator for `wanted`; `auto` proves KVM once and remembers the answer in `home`."""
    if wanted != "auto":
        return Accelerator(wanted, f"{wanted} was set by IMS_ACCELERATOR")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accelerator("tcg", "/dev/kvm is absent or may not be opened by this user")
    host = _Host(os.uname().nodename, os.uname().release, run([QEMU, "--version"]).partition("\n")[0])
    memory = home / "accelerator.json"
    if (known := _recall(memory, host)) is None:
        known = prove("kvm")
        _remember(memory, host, known)
    return known


def prove(kind: Kind, *, timeout_seconds: float = PROOF_SECONDS) -> Accelerator:
    """Run the probe under `kind`; where it does not come through, the answer is TCG with the reason."""
    with tempfile.TemporaryDirectory(prefix="ims-probe-") as folder:
        disk = Path(folder, "probe.raw")
        disk.write_bytes(probe_disk())
        with Path(folder, "stderr").open("w+") as complaints:
            status = _boot(_command(kind, disk), complaints.fileno(), timeout_seconds)
            complaints.seek(0)
            said = complaints.read(4096)
    if status == PROVED_STATUS:
        return Accelerator(kind, f"a guest ran from its firmware to long mode under {kind}")
    return Accelerator("tcg", f"{kind} starts guests but does not run them: {_symptom(said, status)}")


def _command(kind: Kind, disk: Path) -> list[str]:
    """The same CPU model as `domain_xml` gives to guests."""
    cpu = "host" if kind == "kvm" else "max"
    machine = ["-accel", kind, "-cpu", cpu, "-machine", "q35", "-m", "64"]
    bare = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    report = ["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"]
    return [QEMU, *machine, *bare, *report, "-drive", f"file={disk},format=raw,if=virtio,readonly=on"]


def _boot(command: list[str], complaints: int, timeout_seconds: float) -> int | None:
    """QEMU's exit status, or None where it neither finished in time nor could have (an internal error pauses it)."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            start_new_session=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise HostUnavailable("tool_missing", f"{QEMU} is not installed", remedy="Run `make setup`.") from error
    try:
        return _watch(child, complaints, time.monotonic() + timeout_seconds)
    finally:
        end_group(child)


def _watch(child: subprocess.Popen[str], complaints: int, deadline: float) -> int | None:
    while (status := child.poll()) is None and time.monotonic() < deadline:
        if b"internal error" in os.pread(complaints, 4096, 0):
            return None
        time.sleep(0.05)
    return status


def _symptom(said: str, status: int | None) -> str:
    for line in said.splitlines():
        if "internal error" in line:
            return line.strip()[:200]
    if status is None:
        return "the probe was far slower than any real machine"
    return said.strip()[:200] or f"the guest reset before it reported (status {status})"


def _recall(memory: Path, host: _Host) -> Accelerator | None:
    try:
        known = json.loads(memory.read_text())
        if known["host"] != asdict(host) or known["kind"] not in ("kvm", "tcg"):
            return None
        return Accelerator(known["kind"], str(known["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: Path, host: _Host, known: Accelerator) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    partial = memory.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps({"host": asdict(host), **asdict(known)}, indent=1) + "\n")
    os.replace(partial, memory)
