"""Export: a disk behind an NBD export becomes a file in one of EXPORT_FORMATS. QEMU writes in its cage; ZVHD is our own codec.

The file appears under its name only when it is whole.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.disks.cage import Walls, run
from tasks.engine.disks.formats import DiskFormat
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.disks.zvhd_writer import blocks_of, write_zvhd, write_zvhd2
from tasks.engine.errors import HostUnavailable, RequestRefused
from tasks.engine.geometry import CHUNK_SIZE, PendingChunk

Share = Callable[[float], None]
"""Called with the part done, 0 to 1."""

OPTIONS: dict[DiskFormat, list[str]] = {
    DiskFormat.RAW: ["-O", "raw"],
    DiskFormat.QCOW2: ["-O", "qcow2", "-o", "compat=1.1"],
    DiskFormat.VMDK: ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    # Without force_size QEMU rounds to a disk geometry and the disk grows.
    DiskFormat.VHD: ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
    DiskFormat.VHDX: ["-O", "vhdx", "-o", "subformat=dynamic"],
}
MAX_VHD_BYTES = 2040 << 30
EXPORT_SECONDS = 24 * 3600
CPU_SECONDS = 12 * 3600
SPARE_BYTES = 1 << 30
_SOCKET, _OUT = "/nbd", "/out"
_PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Which disk to write: the export's socket and name, and its size in guest-visible bytes."""

    socket: Path
    name: str
    virtual_size: int


def export_disk(disk: Exported, *, format: DiskFormat, destination: Path, progress: Share) -> None:
    """Write the disk to the new file `destination`. Raises RequestRefused, HostUnavailable."""
    if format is DiskFormat.VHD and disk.virtual_size > MAX_VHD_BYTES:
        raise RequestRefused("format", "a VHD holds at most 2040 GiB", remedy="Export as VHDX.")
    draft = _draft(destination)
    try:
        if format in OPTIONS:
            _by_qemu(disk, format, draft, progress)
        else:
            _by_codec(disk, format, draft, progress)
        _settle(draft, destination)
    finally:
        draft.unlink(missing_ok=True)


def _by_qemu(disk: Exported, format: DiskFormat, draft: Path, progress: Share) -> None:
    walls = Walls(
        writable=((disk.socket, _SOCKET), (draft, _OUT)),
        cpu_seconds=CPU_SECONDS,
        file_bytes=2 * disk.virtual_size + SPARE_BYTES,
    )
    source = f"nbd+unix:///{disk.name}?socket={_SOCKET}"

    def watch(piece: bytes) -> None:
        for share in _PERCENT.findall(piece)[-1:]:
            progress(float(share) / 100)

    command = ["qemu-img", "convert", "-p", "-f", "raw", *OPTIONS[format], source, _OUT]
    run(command, walls, timeout_seconds=EXPORT_SECONDS, on_output=watch)


def _by_codec(disk: Exported, format: DiskFormat, draft: Path, progress: Share) -> None:
    write = write_zvhd if format is DiskFormat.ZVHD else write_zvhd2
    try:
        with _WatchedReader(disk, progress) as reader, draft.open("wb") as out:
            write(out, virtual_size=disk.virtual_size, blocks=blocks_of(reader), uuid=uuid.uuid4(), timestamp=int(time.time()))
    except OSError as error:
        raise _no_space(error) from error


class _WatchedReader(NbdReader):
    """An NbdReader that says how far it was read."""

    def __init__(self, disk: Exported, progress: Share) -> None:
        super().__init__(disk.socket, disk.name)
        self._progress = progress

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for pending in super().pending_chunks():
            self._progress(pending.index * CHUNK_SIZE / self.virtual_size)
            yield pending


def _draft(destination: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{destination.name[:100]}.", dir=destination.parent)
    except OSError as error:
        raise RequestRefused("target", f"{destination.parent} cannot be written: {error}", remedy="Choose another.") from error
    os.close(handle)
    return Path(name)


def _settle(draft: Path, destination: Path) -> None:
    """Flush the file and give it its name, and the mode that a new file of this user has."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    draft.chmod(0o666 & ~umask)
    os.link(draft, destination)


def _no_space(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HostUnavailable("disk_full", "no space left for the export", remedy="Free space or choose another target.")
    return error
