"""A guest for the capture benchmarks: launched as an ECS is, changed through its agent, stopped and started again.

How it is captured is `capturing`'s matter.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import libvirt_qemu

from benchmarks.launch_guests import READY_SECONDS, Launcher
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.guests import domain
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.domain_xml import DomainSpec
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import EcsFiles, ecs_files, make_folder, remove_folder
from tasks.engine.guests.ready import wait_ready

CHANGE = 50 * 1000**2
"""Bytes that a change writes anew."""

PATIENCE = 120
"""Seconds for one command in the guest, whose processor may be emulated."""

WRITER = """exec </dev/null >/dev/null 2>&1; echo $$ >/run/writer
while :; do head -c 32768 /dev/urandom >>/root/log; sync; [ $(stat -c %s /root/log) -lt 8000000 ] || : >/root/log; done"""


@dataclass(slots=True)
class Guest:
    """A guest that is running, or stopped; `rotation` is the number of files that its changes overwrite in turn."""

    hypervisor: Hypervisor
    spec: DomainSpec
    files: EcsFiles
    rotation: int
    _changes: int = 0

    @property
    def domain(self) -> Any:
        """libvirt's handle."""
        return self.hypervisor.domain(self.spec.ecs_id)

    def change(self) -> None:
        """Overwrite a file in its root with CHANGE random bytes, all of them on its disk afterwards."""
        file = f"/root/change-{self._changes % self.rotation}"
        self._changes += 1
        self.shell(f"dd if=/dev/urandom of={file} bs=1000000 count={CHANGE // 1000**2} conv=notrunc,fsync && sync")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While it appends to a file and syncs, all the time."""
        self._run(WRITER)
        try:
            yield
        finally:
            self.shell("kill $(cat /run/writer)")

    def start(self) -> None:
        """Boot it, again, until its agent answers."""
        domain.start(self.hypervisor, self.spec)
        self.wait()

    def stop(self) -> None:
        """Shut it down; nothing writes to its overlay any more."""
        how = domain.stop(self.hypervisor, self.spec.ecs_id, grace_seconds=PATIENCE)
        if how != "shutdown":
            raise RuntimeError(f"the guest did not shut down: {how}")

    def wait(self) -> None:
        """Until its agent answers."""
        ready = wait_ready(self.hypervisor, self.spec.ecs_id, console=self.files.console, timeout_seconds=READY_SECONDS)
        if ready.by != "agent":
            raise RuntimeError(f"the guest's agent does not answer, ready by {ready.by}")

    def shell(self, command: str) -> None:
        """Run a command in it, which must succeed."""
        pid, deadline = self._run(command), time.monotonic() + PATIENCE
        while not (status := self._ask("guest-exec-status", pid=pid))["exited"]:
            if time.monotonic() > deadline:
                raise TimeoutError(command)
            time.sleep(0.1)
        if status["exitcode"] != 0:
            raise RuntimeError(f"{command}: {base64.b64decode(status.get('err-data', '')).decode(errors='replace')}")

    def _run(self, command: str) -> int:
        answer = self._ask("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})
        pid: int = answer["pid"]
        return pid

    def _ask(self, command: str, **arguments: object) -> Any:
        question = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(self.domain, question, PATIENCE, 0))["return"]


@contextmanager
def launched(launcher: Launcher, digest: ManifestDigest, *, virtual_size: int, rotation: int) -> Iterator[Guest]:
    """A guest over a stored disk, its changes noted from its first instruction on; it ends with the block."""
    ecs_id = uuid4()
    files = ecs_files(launcher.host.settings.ecs_folder, ecs_id)
    backing = Backing(socket=launcher.host.settings.exports_socket, export=digest, virtual_size=virtual_size)
    try:
        make_folder(files)
        guest = Guest(launcher.hypervisor, launcher.spec(ecs_id, files, backing), files, rotation)
        domain.launch(launcher.hypervisor, guest.spec)
        guest.wait()
        yield guest
    finally:
        domain.delete(launcher.hypervisor, ecs_id)
        remove_folder(files)
