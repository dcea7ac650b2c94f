"""Writes a disk, served by an NBD export, to an image file: ZVHD and ZVHD2 by our own writers, the rest by caged qemu-img.

What comes out has passed the header gate that imports pass, so no file is handed out that lies about its size.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from tasks.engine.children import Launch
from tasks.engine.disks import c_zvhd, cage, gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.drafts import draft_of, write_failure
from tasks.engine.disks.formats import QEMU_DRIVERS, DiskFormat, Window
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.disks.zvhd_writer import blocks_of, write_zvhd, write_zvhd2
from tasks.engine.errors import HostUnavailable, RequestRefused

OPTIONS = {
    DiskFormat.RAW: (),
    DiskFormat.QCOW2: ("-o", "compat=1.1"),
    # The one kind that VMware's importers and OVA files take, and compressed.
    DiskFormat.VMDK: ("-o", "subformat=streamOptimized"),
    # Without force_size the disk would grow to the next size that cylinders, heads and sectors can express.
    DiskFormat.VHD: ("-o", "subformat=dynamic,force_size=on"),
    DiskFormat.VHDX: ("-o", "subformat=dynamic"),
}
MAX_SIZES = {DiskFormat.VHD: 2040 << 30, DiskFormat.VHDX: 64 << 40}
COROUTINES = "8"
PROGRESS_SECONDS = 0.25
SPARE_BYTES = 1 << 20
"""With less than this left, a disk is called full."""
_SHARE = re.compile(rb"\((\d+\.\d+)/100%\)")
_WRITERS = {DiskFormat.ZVHD: write_zvhd, DiskFormat.ZVHD2: write_zvhd2}


def export_disk(
    *,
    nbd_socket: Path,
    export_name: str,
    virtual_size: int,
    format: DiskFormat,
    destination: Path,
    progress: Callable[[float], None],
) -> None:
    """Write the export's content to `destination`, which appears only when whole. `progress` gets shares from 0 to 1."""
    _require_size(format, virtual_size)
    with NbdReader(nbd_socket, export=export_name) as reader:
        if reader.virtual_size != virtual_size:
            raise HostUnavailable("nbd", f"export {export_name} has {reader.virtual_size} bytes instead of {virtual_size}")
        with draft_of(destination) as draft:
            if format in _WRITERS:
                _write_blocks(reader, draft, format=format, progress=progress)
            else:
                _convert(reader, draft, format=format, progress=progress)
            _require_same_disk(draft, format=format, virtual_size=virtual_size)
    progress(1.0)


def _require_size(format: DiskFormat, virtual_size: int) -> None:
    if format not in OPTIONS and format not in _WRITERS:
        raise ValueError(f"{format} is not an export format")
    if virtual_size > MAX_SIZES.get(format, virtual_size):
        raise _unfit(format, virtual_size)


def _require_same_disk(draft: Path, *, format: DiskFormat, virtual_size: int) -> None:
    """The file holds a disk of exactly this size by our own reading of it."""
    with FileBytes(Window(draft)) as source:
        found = gate.examine(source, declared=format, max_virtual_size=max(virtual_size, source.size), depth="headers")
    if found.virtual_size != virtual_size:
        raise _unfit(format, virtual_size)


def _unfit(format: DiskFormat, virtual_size: int) -> RequestRefused:
    return RequestRefused("format", f"{format} cannot hold a disk of {virtual_size} bytes", remedy="Export it as qcow2 or raw.")


def _write_blocks(reader: NbdReader, draft: Path, *, format: DiskFormat, progress: Callable[[float], None]) -> None:
    def watched() -> Iterator[tuple[int, bytes]]:
        for block, data in blocks_of(reader):
            progress(block * c_zvhd.BLOCK_SIZE / reader.virtual_size)
            yield block, data

    with draft.open("r+b") as out:
        _WRITERS[format](out, virtual_size=reader.virtual_size, blocks=watched(), uuid=uuid4(), timestamp=int(time.time()))


def _convert(reader: NbdReader, draft: Path, *, format: DiskFormat, progress: Callable[[float], None]) -> None:
    size = reader.virtual_size
    room = {"cpu_seconds": 600 + (size >> 21), "file_size": size + (size >> 6) + (64 << 20)}
    shares = _Shares()
    with reader.connected() as connection, cage.lent(draft):
        command = _command(connection, reader.export, format)
        inside = cage.Cage(draft, writable=True, sockets=(connection.fileno(),), **room)
        with cage.start(command, inside, launch=Launch(on_output=shares.add)) as child:
            deadline = time.monotonic() + 3600 + (size >> 20)
            while not child.ends_within(PROGRESS_SECONDS) and time.monotonic() < deadline:
                # In this thread, not the one that reads: whoever listens may be bound to the step's thread.
                progress(shares.latest)
            status = child.wait(timeout_seconds=0)
            cage.require_cage(child)
            if status:
                raise _failure(child.last_words().removeprefix("qemu-img: ") or f"status {status}", draft)


def _command(connection: socket.socket, export: str, format: DiskFormat) -> list[str]:
    """qemu-img from an inherited connection to IMAGE. The source is raw by decree: its content is never probed."""
    server = {"type": "fd", "str": str(connection.fileno())}
    source = {"driver": "raw", "file": {"driver": "nbd", "server": server, "export": export}}
    output = ["-O", QEMU_DRIVERS.get(format, "raw"), *OPTIONS[format]]
    return ["qemu-img", "convert", "-p", "-m", COROUTINES, *output, f"json:{json.dumps(source)}", cage.IMAGE]


def _failure(words: str, draft: Path) -> HostUnavailable:
    # QEMU's VMDK writer calls a full disk an invalid argument, so the disk itself is asked too.
    room = os.statvfs(draft.parent)
    if "No space left" in words or "quota exceeded" in words or room.f_bavail * room.f_frsize < SPARE_BYTES:
        return write_failure(OSError(errno.ENOSPC, words), draft)
    return HostUnavailable("convert", f"qemu-img could not write the file ({words})", remedy="See `ims status` and try again.")


class _Shares:
    """What `qemu-img -p` says of its progress."""

    def __init__(self) -> None:
        self.latest = 0.0
        self._rest = b""

    def add(self, block: bytes) -> None:
        """Note the last percentage in the output so far."""
        text = self._rest + block
        if found := _SHARE.findall(text):
            self.latest = float(found[-1]) / 100
        self._rest = text[-32:]
