"""Reads a foreign disk image file through QEMU in its cage; only for files that the header gate has passed."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbd

from tasks.engine.children import Child
from tasks.engine.disks import cage
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.nbd_reader import CONNECTIONS, NbdReader
from tasks.engine.disks.vhdx import read_map
from tasks.engine.disks.vhdx_blocks import present_blocks
from tasks.engine.errors import DiskRefused, ImsError
from tasks.engine.geometry import Extent

STALL_SECONDS = 120.0
"""The longest that QEMU may take for one answer; a chunk takes milliseconds."""
WORDS_SECONDS = 1.0
_REMEDY = "Repair it where it was made (`qemu-img check`), then convert it to a new file."


class QemuReader(NbdReader):
    """A DiskReader over one image file, decoded by a caged qemu-storage-daemon that ends with it."""

    export_options = ""

    def __init__(self, window: Window, finding: Finding, *, stall_seconds: float = STALL_SECONDS) -> None:
        with ExitStack() as stack:
            with tempfile.TemporaryDirectory(prefix="ims-") as folder:
                path = Path(folder) / "nbd.sock"
                self.child = stack.enter_context(_serve(window, finding, path, self.export_options))
                self._guard = stack.enter_context(StallGuard(self.child, seconds=stall_seconds))
                super().__init__(path)
                stack.callback(super().close)
                self._require_size(finding)
                # The name goes at once, so that not even a killed owner leaves it behind.
                self.connect_all()
            self._own_map = _vhdx_extents(window, finding) if finding.format is DiskFormat.VHDX else None
            self._open = stack.pop_all()

    def extents(self) -> Iterator[Extent]:
        """Runs that do not surely read as zeros, ascending: QEMU's map, or ours of a VHDX, whose holes QEMU does not tell."""
        return super().extents() if self._own_map is None else iter(self._own_map)

    def close(self) -> None:
        self._open.close()

    def _require_size(self, finding: Finding) -> None:
        if self.virtual_size != finding.virtual_size:
            raise DiskRefused(
                "header_mismatch",
                f"QEMU sees a disk of {self.virtual_size} bytes where the headers say {finding.virtual_size}",
                remedy=_REMEDY,
            )

    @contextmanager
    def _connection(self) -> Iterator[nbd.NBD]:
        with self._guard.watching(), super()._connection() as connection:
            yield connection

    def _request_failure(self, error: nbd.Error) -> ImsError:
        # QEMU closes its sockets a moment before its last words arrive.
        deadline = time.monotonic() + WORDS_SECONDS
        while not self.child.last_words() and self.child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._guard.fired:
            return DiskRefused("unreadable", "QEMU gave no answer and was ended", remedy=_REMEDY)
        if self.child.poll() is not None:
            cage.require_cage(self.child)
        words = self.child.last_words().removeprefix("qemu-storage-daemon: ") or error.string
        return DiskRefused("unreadable", f"QEMU cannot read the disk ({words})", remedy=_REMEDY)


class StallGuard:
    """Ends a child when one request to it takes longer than `seconds`, since a blocked read cannot be interrupted."""

    def __init__(self, child: Child, *, seconds: float) -> None:
        self._child, self._seconds = child, seconds
        self._since: dict[object, float] = {}
        self._closed = threading.Event()
        self.fired = False
        self._thread = threading.Thread(target=self._watch, name="stall guard", daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around one request."""
        request = object()
        self._since[request] = time.monotonic()
        try:
            yield
        finally:
            del self._since[request]

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            # Copied in one step: other threads come and go.
            if min(list(self._since.values()), default=time.monotonic()) < time.monotonic() - self._seconds:
                self.fired = True
                self._child.end()
                return

    def __enter__(self) -> StallGuard:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._thread.join()


def _serve(window: Window, finding: Finding, path: Path, options: str) -> Child:
    """A caged server of the disk, listening at `path` before it has begun."""
    disk = {**cage.image_node(window, finding.format), "node-name": "disk"}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(CONNECTIONS)
        number = listening.fileno()
        command = ["qemu-storage-daemon", "--blockdev", json.dumps(disk)]
        command += ["--nbd-server", f"addr.type=fd,addr.str={number},max-connections={CONNECTIONS}"]
        command += ["--export", f"type=nbd,id=export,node-name=disk,name=,writable=off{options}"]
        return cage.start(command, cage.Cage(window.path, cpu_seconds=_cpu_seconds(finding), sockets=(number,)))


def _cpu_seconds(finding: Finding) -> int:
    """Far above any honest disk: 4 MiB of content in a second, and two minutes."""
    return 120 + finding.virtual_size // (4 << 20)


def _vhdx_extents(window: Window, finding: Finding) -> list[Extent]:
    """The stored blocks of a VHDX."""
    with FileBytes(window) as source:
        geometry, table = read_map(source, max_virtual_size=finding.virtual_size)
        size = geometry.block_size
        starts = [block * size for block in present_blocks(source, geometry, offset=table)]
    return [Extent(start, min(size, finding.virtual_size - start)) for start in starts]
