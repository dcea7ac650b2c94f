"""Files that appear under their name only when whole: written beside it, synced, renamed, removed on failure."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.engine.errors import HostUnavailable, OperationBusy


@contextmanager
def draft_of(destination: Path) -> Iterator[Path]:
    """An empty file in the destination's folder that takes its name at the end. What a killed writer left is overwritten."""
    draft = destination.with_name(f".{destination.name}.part")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise write_failure(error, destination) from error
    try:
        _lock(descriptor, draft, destination)
        yield from _written(descriptor, draft, destination)
    finally:
        os.close(descriptor)


def write_failure(error: OSError, target: Path) -> HostUnavailable:
    """The error for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostUnavailable("disk_full", f"no space left in {target.parent}", remedy="Free some and try again.")
    return HostUnavailable("disk_write", f"cannot write {target}: {error.strerror}", remedy="See to the folder and try again.")


def _lock(descriptor: int, draft: Path, destination: Path) -> None:
    """Take the draft for this writer. A draft that another finished meanwhile is the other's file and stays untouched."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = draft.exists() and os.path.samestat(os.fstat(descriptor), draft.stat())
    except BlockingIOError:
        ours = False
    if not ours:
        raise OperationBusy(f"another process writes {destination}", remedy="Wait for it, or name another file.")


def _written(descriptor: int, draft: Path, destination: Path) -> Iterator[Path]:
    try:
        os.ftruncate(descriptor, 0)
        yield draft
        os.fsync(descriptor)
        draft.rename(destination)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise write_failure(error, destination) from error
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(destination.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
