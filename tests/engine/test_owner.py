"""A process is recognised while it runs, and never taken for another of the same number."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.engine.owner import Process, this_process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started
        started.kill()


def seen(pid: int) -> Process:
    """What /proc tells: behind the name comes the third field of the file."""
    return Process(pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[22 - 3])


def test_this_process_runs_and_is_what_proc_tells() -> None:
    assert this_process() == seen(os.getpid())
    assert this_process().runs


def test_process_of_a_later_start_is_another(child: subprocess.Popen[bytes]) -> None:
    assert seen(child.pid).runs
    assert not Process(child.pid, str(int(seen(child.pid).started) - 1)).runs
    assert not Process(child.pid, "").runs


def test_process_that_ended_does_not_run_before_it_is_reaped(child: subprocess.Popen[bytes]) -> None:
    process = seen(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child.pid}/stat").exists()
    assert not process.runs
    child.wait()
    assert not process.runs


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
@pytest.mark.parametrize("started", ["", "0", "1"])
def test_process_that_cannot_be_does_not_run(pid: int, started: str) -> None:
    assert not Process(pid, started).runs


def test_name_full_of_brackets_and_blanks_is_no_field(tmp_path: Path) -> None:
    odd = tmp_path / ") S 1 (x) Z"
    odd.symlink_to("/usr/bin/sleep")
    with subprocess.Popen([odd, "60"]) as child:
        while odd.name not in Path(f"/proc/{child.pid}/stat").read_text():
            time.sleep(0.01)
        started = Path(f"/proc/{child.pid}/stat").read_text().split(f"({odd.name})")[1].split()[22 - 3]
        assert Process(child.pid, started).runs
        child.kill()
