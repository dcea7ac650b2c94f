"""Replays the log of a VHDX that was not closed cleanly, on a private copy, so that it can be opened read-only.

The replay may change any byte of the copy: whoever asks for it must send the copy through the header gate again.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from tasks.engine.disks import cage
from tasks.engine.disks.drafts import write_failure
from tasks.engine.disks.formats import DiskFormat, Window
from tasks.engine.disks.raw_reader import file_extents
from tasks.engine.errors import DiskRefused

REPLAY_SECONDS = 600.0
CPU_SECONDS = 300
GROWTH = 1 << 30
"""Bytes that a replay may add to the file."""
_BLOCK = 4 << 20


def replayed(window: Window, *, scratch: Path) -> Window:
    """A copy in `scratch` with its log replayed; removing it is the caller's. Raises DiskRefused('unreadable')."""
    copy = scratch / f"replayed-{window.offset}.vhdx"
    copy.unlink(missing_ok=True)
    try:
        size = copy_sparse(window, copy)
        with cage.lent(copy):
            _replay(Window(copy), file_size=size + GROWTH)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
    return Window(copy)


def copy_sparse(window: Window, target: Path) -> int:
    """Copy a window into a new private file, holes as holes, and return its length in bytes. HostUnavailable('disk_full')."""
    size = window.path.stat().st_size - window.offset if window.size < 0 else window.size
    source = os.open(window.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(out, size)
            for extent in file_extents(window, size=size):
                _copy_run(source, out, start=extent.offset, end=extent.offset + extent.length, shift=window.offset)
        finally:
            os.close(out)
    except OSError as error:
        raise write_failure(error, target) from error
    finally:
        os.close(source)
    return size


def _copy_run(source: int, out: int, *, start: int, end: int, shift: int) -> None:
    """Copy target bytes [start, end) from `shift` bytes further on in the source."""
    while start < end:
        block = os.pread(source, min(_BLOCK, end - start), start + shift)
        if not block:
            raise DiskRefused(
                "truncated", "the file became shorter while it was copied", remedy="Import it when it is complete."
            )
        start += os.pwrite(out, block, start)


def _replay(window: Window, *, file_size: int) -> None:
    image = "json:" + json.dumps(cage.image_node(window, DiskFormat.VHDX, read_only=False))
    room = cage.Cage(window.path, cpu_seconds=CPU_SECONDS, writable=True, file_size=file_size)
    status, words = cage.run(["qemu-img", "check", "-r", "all", image], room, timeout_seconds=REPLAY_SECONDS)
    if "No space left" in words:
        raise write_failure(OSError(errno.ENOSPC, words), window.path)
    if status:
        reason = words.removeprefix("qemu-img: ") or f"status {status}"
        raise DiskRefused("unreadable", f"the VHDX's log cannot be replayed ({reason})", remedy="Open and close it in Hyper-V.")
