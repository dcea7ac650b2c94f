"""Child processes that end with their step: own process group, kernel limits, killed with their owner, bounded output.

What a child may see is not decided here; foreign image files go through `tasks.engine.disks.cage`, which starts through this.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Self

from tasks.engine.errors import HostUnavailable

WORDS_KEPT = 8 << 10
"""Bytes of a child's last words that are kept."""
_UNLESS_ORPHANED = ["/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']
"""Goes on only while the owner lives: one that died before the death signal was set would never be noticed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Kernel limits of one child; None leaves the owner's. Core files are never written."""

    address_space: int | None = None
    cpu_seconds: int | None = None
    file_size: int | None = None
    open_files: int | None = None

    def command(self) -> list[str]:
        """The prlimit command that sets them and then becomes what follows it."""
        limits = {
            "as": self.address_space,
            "cpu": self.cpu_seconds,
            "fsize": self.file_size,
            "nofile": self.open_files,
        }
        return ["prlimit", "--core=0", *(f"--{name}={value}" for name, value in limits.items() if value is not None), "--"]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a child is started beyond its command. `on_output` gets standard output as it comes, in a thread of its own."""

    limits: Limits = field(default_factory=Limits)
    environment: dict[str, str] | None = None
    descriptors: tuple[int, ...] = ()
    on_output: Callable[[bytes], None] | None = None


class Child:
    """A running child. Leaving its context kills what is left of its process group."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], on_output: Callable[[bytes], None] | None) -> None:
        self.name, self._process = name, process
        self._words = _Tail()
        self._threads = [_pump(process.stderr, self._words.add)]
        if on_output:
            self._threads.append(_pump(process.stdout, on_output))

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def ends_within(self, seconds: float) -> bool:
        """Wait for the child's end, at most so long; whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def wait(self, *, timeout_seconds: float) -> int:
        """The exit status; HostUnavailable('timeout') when the child takes longer."""
        if not self.ends_within(timeout_seconds):
            raise HostUnavailable("timeout", f"{self.name} did not finish in {timeout_seconds:.0f} s")
        self._drain()
        return int(self._process.returncode)

    def last_words(self) -> str:
        """The last line the child said on standard error; all of them once it has ended."""
        if self._process.poll() is not None:
            self._drain()
        return self._words.last_line()

    def end(self) -> None:
        """Kill the process group at once and reap the child. One that has ended already has its number free for others."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._drain()

    def _drain(self) -> None:
        for thread in self._threads:
            thread.join(timeout=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()


def start(command: Sequence[str], launch: Launch | None = None) -> Child:
    """Start a child that the kernel kills when this process ends, however it ends."""
    launch = launch or Launch()
    if shutil.which(command[0]) is None:
        raise HostUnavailable("tool_missing", f"{command[0]} is not installed", remedy="Run `make setup`.")
    # setpriv sets PR_SET_PDEATHSIG without Python code between fork and exec, which threads make unsafe.
    guarded = ["setpriv", "--pdeathsig", "KILL", "--", *_UNLESS_ORPHANED, str(os.getpid())]
    guarded += [*launch.limits.command(), *command]
    process = _starter().submit(_start, guarded, launch).result()
    return Child(command[0], process, launch.on_output)


def run(command: Sequence[str], launch: Launch | None = None, *, timeout_seconds: float) -> tuple[int, str]:
    """Run a child to its end: its exit status and its last words."""
    with start(command, launch) as child:
        status = child.wait(timeout_seconds=timeout_seconds)
        return status, child.last_words()


@cache
def _starter() -> ThreadPoolExecutor:
    """The thread that starts every child: the death signal is sent when the starting thread ends, and a step's thread may."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="children")


def _start(command: list[str], launch: Launch) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if launch.on_output else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=launch.environment,
        pass_fds=launch.descriptors,
        start_new_session=True,
    )


class _Tail:
    """The end of a stream, whatever its length."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._size = 0

    def add(self, block: bytes) -> None:
        self._blocks.append(block)
        self._size += len(block)
        while self._size - len(self._blocks[0]) >= WORDS_KEPT:
            self._size -= len(self._blocks.popleft())

    def last_line(self) -> str:
        lines = b"".join(list(self._blocks)).decode(errors="replace").strip().splitlines()
        return lines[-1][-500:] if lines else ""


def _pump(stream: IO[bytes] | None, sink: Callable[[bytes], None]) -> threading.Thread:
    """Read a stream to its end in a thread, so that a talkative child neither blocks nor fills memory."""
    assert stream is not None  # noqa: S101  # the caller asked for the pipe

    def pump() -> None:
        with stream:
            while block := os.read(stream.fileno(), 4096):
                sink(block)

    thread = threading.Thread(target=pump, name="child output", daemon=True)
    thread.start()
    return thread
