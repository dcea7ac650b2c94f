"""Child processes that end with their step: own process group, own session, killed with the thread's process.

Which command to run, and inside which walls, is the caller's business (`tasks.engine.disks.cage`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tasks.engine.errors import HostUnavailable

PR_SET_PDEATHSIG = 1
MAX_WORDS = 400


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a child runs as: a user id and a group id, without any other group."""

    user: int
    group: int


@contextmanager
def child(command: Sequence[str], *, identity: Identity | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A running command with both outputs piped; its whole process group is killed when the context ends.

    `identity` is taken on by root alone. Raises HostUnavailable('tool_missing').
    """
    taken = identity if os.geteuid() == 0 else None
    libc = ctypes.CDLL(None)  # loaded here: nothing may be imported between fork and exec
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
            user=taken.user if taken else None,
            group=taken.group if taken else None,
            extra_groups=[] if taken else None,
        )
    except FileNotFoundError as error:
        raise HostUnavailable("tool_missing", f"{command[0]} is not installed", remedy="Run `make setup`.") from error
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child's group and reap the child."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def last_words(complaint: bytes) -> str:
    """The end of what a tool complained about, as one bounded line of printable text."""
    text = " ".join(complaint.decode("utf-8", errors="replace").split())
    return "".join(char if char.isprintable() else "?" for char in text)[-MAX_WORDS:]
