"""A disk image file as QEMU's own decoder reads it, inside the cage, over NBD on a private unix socket."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from tasks.engine.children import last_words
from tasks.engine.disks.cage import block_driver, explain, meeting_place, running, walls_for
from tasks.engine.disks.formats import Finding, Window
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.errors import DiskRefused, ImsError

CONNECTIONS = 16
START_SECONDS = 20.0
CPU_BYTES_PER_SECOND = 10 << 20
"""Slowest decoding that is still work and not an attack: it bounds QEMU's CPU time by the disk's size."""
_INSIDE = "/meeting"


class QemuReader(NbdReader):
    """A DiskReader over a file that passed the gate. Closing it ends its QEMU."""

    def __init__(self, window: Window, finding: Finding) -> None:
        self._open = ExitStack()
        self._complaint = b""
        try:
            socket = self._start(window, finding)
            super().__init__(socket)
        except BaseException:
            self._open.close()
            raise
        if self.virtual_size != finding.virtual_size:
            found = self.virtual_size
            self.close()
            raise DiskRefused(
                "header_mismatch",
                f"its headers say {finding.virtual_size} bytes and its content {found}",
                remedy="Export the disk again.",
            )

    def failure(self, words: str) -> ImsError:
        if self._process.poll() is not None and self._process.stderr is not None:
            words = last_words(self._process.stderr.read()) or words
        return DiskRefused("unreadable", f"QEMU cannot read it: {words}", remedy="Export the disk again.")

    def close(self) -> None:
        super().close()
        self._open.close()

    def _start(self, window: Window, finding: Finding) -> Path:
        """Start QEMU's NBD server in the cage and wait until its socket is there."""
        walls = walls_for(window.path, cpu_seconds=120 + finding.virtual_size // CPU_BYTES_PER_SECOND)
        folder = self._open.enter_context(meeting_place(walls.identity))
        walls = walls_for(window.path, cpu_seconds=walls.cpu_seconds, writable=((folder, _INSIDE),))
        driver = block_driver(finding.format, window)
        command = ["qemu-nbd", "--read-only", "--persistent", f"--shared={CONNECTIONS}", f"--socket={_INSIDE}/nbd", driver]
        self._process = self._open.enter_context(running(command, walls))
        _wait_for(folder / "nbd", self._process)
        return folder / "nbd"


def _wait_for(socket: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not socket.exists():
        if process.poll() is not None:
            raise explain("qemu-nbd", process.stderr.read() if process.stderr else b"")
        if time.monotonic() > deadline:
            raise DiskRefused("too_slow", f"QEMU did not open it in {START_SECONDS:.0f} s", remedy="Convert it to QCOW2.")
        time.sleep(0.01)
