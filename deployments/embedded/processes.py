"""Processes that outlive the command that started them: start, recognise, stop. Knows nothing of services.

A process is ours only while pid, start time and boot agree with what was recorded, so a reused pid is never signalled. Its
descendants carry a token in their environment and are found by it, whatever session they moved to.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel

LOG_LIMIT = 10 << 20
TOKEN_VARIABLE = "IMS_SERVICE_TOKEN"  # noqa: S105  # a name, not a secret
POLL_SECONDS = 0.05
KILL_SECONDS = 3.0
SHELL = 'umask "$1"; cd "$2"; shift 2; exec "$@"'


class Record(BaseModel):
    """What identifies a started process; `fingerprint` says with which settings it was started."""

    pid: int
    start_time: int
    boot: str
    token: str
    fingerprint: str


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the live process `pid` started; None where there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: Record) -> bool:
    _reap(record.pid)
    return record.boot == boot_id() and start_time(record.pid) == record.start_time


def spawn(
    command: tuple[str, ...], *, environment: dict[str, str], log: Path, umask: int = 0o077, fingerprint: str = ""
) -> Record:
    """Start a command as leader of its own session, its output appended to `log`. Raises OSError."""
    rotate(log)
    token = secrets.token_hex(16)
    wrapped = ["/bin/sh", "-c", SHELL, "sh", f"{umask:04o}", str(log.parent), *command]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        "/bin/sh",
        wrapped,
        {**environment, TOKEN_VARIABLE: token},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Record(pid=pid, start_time=start_time(pid) or 0, boot=boot_id(), token=token, fingerprint=fingerprint)


def rotate(log: Path) -> None:
    """Keep one older log, and only where the present one has grown over its limit."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))


def stop(record: Record, *, seconds: float) -> None:
    """End the process and all its descendants: SIGTERM to the leader, to those left, then SIGKILL."""
    if is_alive(record):
        _signal(record.pid, signal.SIGTERM, record.token)
        _wait_until(lambda: not is_alive(record), seconds)
    end_descendants(record)


def end_descendants(record: Record) -> None:
    """End what is left of a process that died by itself, or did not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants(record.token):
            _signal(pid, number, record.token)
        if _wait_until(lambda: not any(descendants(record.token)), KILL_SECONDS):
            return


def descendants(token: str) -> Iterator[int]:
    """Live processes that inherited this token, the leader among them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _carries(int(entry.name), token):
            yield int(entry.name)


def _carries(pid: int, token: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{TOKEN_VARIABLE}={token}".encode() in environment.split(b"\0")


def _signal(pid: int, number: signal.Signals, token: str) -> None:
    """Signal through a pidfd, so that the process looked at is the process signalled."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _carries(pid, token):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _reap(pid: int) -> None:
    """Collect a dead child of this very process; elsewhere init does it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
