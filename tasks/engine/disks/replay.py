"""A VHDX with a dirty log: QEMU replays the log on a private copy, in its cage. The file itself is never written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.cage import IMAGE, block_driver, run, walls_for
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.errors import DiskRefused, HostUnavailable

COPY_BLOCK = 4 << 20
REPLAY_SECONDS = 600


def replayed(window: Window, finding: Finding, copy: Path) -> tuple[Window, Finding]:
    """The disk with its log replayed, in the new file `copy`, examined anew. Raises DiskRefused."""
    draft = copy.with_suffix(".replaying")
    draft.unlink(missing_ok=True)
    size = _copy(window, draft)
    walls = walls_for(draft, writable=((draft, IMAGE),), file_bytes=2 * size + (64 << 20))
    target = Window(Path(IMAGE))
    run(
        ["qemu-img", "check", "-q", "-r", "all", block_driver(DiskFormat.VHDX, target, writable=True)],
        walls,
        timeout_seconds=REPLAY_SECONDS,
    )
    with FileBytes(Window(draft)) as file:
        found = gate.examine(file, declared=DiskFormat.VHDX, max_virtual_size=finding.virtual_size, depth="full")
    if found.needs_replay or found.virtual_size != finding.virtual_size:
        raise DiskRefused("dirty_log", "the VHDX's log could not be replayed", remedy="Shut the machine down and copy again.")
    return Window(draft.rename(copy)), found


def _copy(window: Window, target: Path) -> int:
    """Copy the window, keeping holes; returns its size in bytes."""
    try:
        with FileBytes(window) as file, target.open("xb") as out:
            for offset in range(0, file.size, COPY_BLOCK):
                block = file.pread(offset, min(COPY_BLOCK, file.size - offset))
                if block != bytes(len(block)):
                    os.pwrite(out.fileno(), block, offset)
            out.truncate(file.size)
            return file.size
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostUnavailable("disk_full", "no space left for a copy", remedy="Free space in IMS_HOME.") from error
        raise
