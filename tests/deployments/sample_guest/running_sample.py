"""One QEMU process that runs a copy of the sample guest for a test: console text, guest agent, power button.

It talks to QEMU directly and knows no libvirt; the service's own way to run guests is in tasks/engine/guests.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds that anything may take on a busy machine with an emulated processor."""


def make_seed(folder: Path, *, meta_data: str, user_data: str = "") -> Path:
    """A CD image with the volume name that NoCloud looks for."""
    files = folder / "seed"
    files.mkdir()
    (files / "meta-data").write_text(meta_data)
    (files / "user-data").write_text(user_data)
    iso = folder / "seed.iso"
    command = ("xorriso", "-as", "genisoimage", "-quiet", "-volid", "cidata", "-joliet", "-rock", "-o", iso, files)
    subprocess.run(command, check=True, capture_output=True)
    return iso


def make_overlay(disk: Path, target: Path, *, size: str = "", backing_format: str = "raw") -> Path:
    """A qcow2 file that takes the writes of one guest; `size` as qemu-img understands it."""
    backing = ("-b", disk, "-F", backing_format)
    subprocess.run(("qemu-img", "create", "-q", "-f", "qcow2", *backing, target, *filter(None, [size])), check=True)
    return target


class RunningGuest:
    """A started guest; `folder` gets its console log and its sockets."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder
        self._agent = self._connect("agent")
        self._monitor = self._connect("monitor")

    def console(self) -> str:
        """All that the serial console has shown so far."""
        return (self.folder / "console").read_text(errors="replace")

    def wait_for(self, text: str) -> float:
        """Waits until the console shows a text; returns how many seconds that took."""
        started = time.monotonic()
        while text not in self.console():
            assert time.monotonic() - started < PATIENCE, f"no {text!r} in:\n{self.console()}"
            assert self.process.poll() is None, f"QEMU ended:\n{self.console()}"
            time.sleep(0.05)
        return time.monotonic() - started

    def agent(self, command: str, **arguments: object) -> Any:
        """One call of the guest agent, once it listens."""
        self._agent.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        return self._answer(self._agent)["return"]

    def run(self, command: str) -> str:
        """Standard output of a shell command in the guest."""
        pid = self.agent("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
        while not (status := self.agent("guest-exec-status", pid=pid))["exited"]:
            time.sleep(0.05)
        return base64.b64decode(status.get("out-data", "")).decode()

    def monitor(self, command: str) -> None:
        """One command of QEMU's own protocol; events are passed over."""
        self._monitor.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while "return" not in self._answer(self._monitor):
            pass

    def press_power_button(self) -> None:
        self.monitor("system_powerdown")
        self.process.wait(timeout=PATIENCE)

    def ask_to_shut_down(self) -> None:
        """The guest agent's way, which is what hypervisors try first; it gives no answer."""
        self._agent.sendall(b'{"execute": "guest-shutdown"}\n')
        self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        self._agent.close()
        self._monitor.close()

    def _connect(self, name: str) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while channel.connect_ex(str(self.folder / name)):
            assert time.monotonic() < deadline, f"QEMU made no {name} socket"
            time.sleep(0.05)
        if name == "monitor":
            self._answer(channel)
            channel.sendall(b'{"execute": "qmp_capabilities"}\n')
            self._answer(channel)
        return channel

    def _answer(self, channel: socket.socket) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            line += channel.recv(1)
        return json.loads(line)


@contextmanager
def running(folder: Path, *devices: str) -> Iterator[RunningGuest]:
    """Starts QEMU with the given devices beside the usual ones, and ends it at the end of the block."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([*_command(folder), *devices], start_new_session=True)
    try:
        with closing(RunningGuest(process, folder)) as guest:
            yield guest
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def virtio_disk(path: Path) -> tuple[str, ...]:
    return ("-drive", f"file={path},format=qcow2,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk")


def cd_drive(path: Path) -> tuple[str, ...]:
    return ("-drive", f"file={path},format=raw,if=none,id=cd,media=cdrom,readonly=on", "-device", "ide-cd,drive=cd")


def _command(folder: Path) -> list[str]:
    words = f"""
        qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 2 -m 256 -nodefaults -display none -vga std
        -serial file:{folder}/console
        -qmp unix:{folder}/monitor,server=on,wait=off
        -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net
        -object rng-random,filename=/dev/urandom,id=rng -device virtio-rng-pci,rng=rng
        -device virtio-serial -chardev socket,id=agent,path={folder}/agent,server=on,wait=off
        -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
    """
    return words.split()
