"""Starting, recognising and stopping real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.embedded import processes
from deployments.embedded.processes import Record

SLEEPER = ("sleep", "1000")
TWO_SESSIONS = ("/bin/sh", "-c", "setsid sleep 1000 & exec sleep 1000")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Record]:
    record = processes.spawn(TWO_SESSIONS, environment=dict(os.environ), log=tmp_path / "it.log")
    deadline = time.monotonic() + 10
    while len(list(processes.descendants(record.token))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    yield record
    processes.stop(record, seconds=5)


def test_stop_ends_descendants_in_other_sessions(started: Record) -> None:
    assert len(list(processes.descendants(started.token))) == 2
    processes.stop(started, seconds=5)
    assert not list(processes.descendants(started.token))


def test_stop_ends_what_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = ("/bin/sh", "-c", "trap '' TERM; echo set; while :; do sleep 0.1; done")
    record = processes.spawn(stubborn, environment=dict(os.environ), log=tmp_path / "it.log")
    while "set" not in (tmp_path / "it.log").read_text():
        time.sleep(0.02)
    processes.stop(record, seconds=0.2)
    assert not processes.is_alive(record)


def test_is_alive_after_kill_is_false(started: Record) -> None:
    assert processes.is_alive(started)
    os.kill(started.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert not processes.is_alive(started)


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot": "another"}])
def test_is_alive_with_a_reused_pid_is_false(started: Record, change: dict[str, object]) -> None:
    assert not processes.is_alive(started.model_copy(update=change))


def test_stop_leaves_a_process_that_reused_the_pid(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPER) as stranger:
        started = processes.start_time(stranger.pid) or 0
        record = Record(pid=stranger.pid, start_time=started, boot=processes.boot_id(), token="0" * 32, fingerprint="")
        processes.stop(record, seconds=0.2)
        assert stranger.poll() is None
        stranger.kill()


def test_spawn_leads_its_own_session_with_a_private_log(started: Record, tmp_path: Path) -> None:
    assert os.getsid(started.pid) == started.pid
    assert (tmp_path / "it.log").stat().st_mode & 0o777 == 0o600


def test_spawn_sets_umask_and_folder(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    record = processes.spawn(("/bin/sh", "-c", "umask; pwd"), environment=dict(os.environ), log=log, umask=0o027)
    while processes.is_alive(record):
        time.sleep(0.02)
    assert log.read_text().split() == ["0027", str(tmp_path)]


def test_rotate_keeps_one_older_log(tmp_path: Path) -> None:
    log = tmp_path / "it.log"
    log.write_bytes(bytes(processes.LOG_LIMIT + 1))
    processes.rotate(log)
    assert not log.exists()
    assert (tmp_path / "it.log.1").stat().st_size == processes.LOG_LIMIT + 1
