"""The one door for host commands that guests need (qemu-img, xorriso, qemu-system): own process group, time limit, no shell.

Image files are never parsed through here; the disk formats have their own cage.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from tasks.engine.errors import HostUnavailable


def run(command: Sequence[str], *, timeout_seconds: float = 60) -> str:
    """Run a command to its end and give its standard output; HostUnavailable says what failed, in one line."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise HostUnavailable("tool_missing", f"{command[0]} is not installed", remedy="Run `make setup`.") from error
    try:
        stdout, stderr = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise HostUnavailable("timeout", f"{command[0]} did not finish in {timeout_seconds:.0f} s") from error
    finally:
        end_group(child)
    if child.returncode != 0:
        raise HostUnavailable("command", f"{command[0]} failed: {last_line(stderr) or child.returncode}")
    return stdout


def end_group(child: subprocess.Popen[str]) -> None:
    """Kill what is left of a child's process group and reap the child."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def last_line(text: str) -> str:
    """The last line of a tool's complaint, bounded."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else ""
