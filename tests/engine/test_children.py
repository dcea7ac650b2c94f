"""Child processes: what they are told, how they end, and that none outlives the process or the context that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.engine import children
from tasks.engine.children import Launch, Limits
from tasks.engine.errors import HostUnavailable


def gone(pid: int, *, within_seconds: float = 5) -> bool:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_run_gives_status_and_last_words() -> None:
    assert children.run(["sh", "-c", "echo first >&2; echo last >&2; exit 3"], timeout_seconds=10) == (3, "last")


def test_run_of_a_missing_tool_says_how_to_get_it() -> None:
    with pytest.raises(HostUnavailable, match=r"host\.tool_missing.*make setup"):
        children.run(["no-such-tool"], timeout_seconds=10)


def test_run_that_takes_too_long_is_ended() -> None:
    with pytest.raises(HostUnavailable, match=r"host\.timeout: sleep"):
        children.run(["sleep", "60"], timeout_seconds=0.2)


def test_run_keeps_the_end_of_endless_words() -> None:
    status, words = children.run(["sh", "-c", "head -c 3000000 /dev/zero >&2; echo >&2; echo end >&2"], timeout_seconds=20)
    assert (status, words) == (0, "end")


def test_start_passes_output_on_as_it_comes() -> None:
    seen: list[bytes] = []
    children.run(["printf", "one two"], Launch(on_output=seen.append), timeout_seconds=10)
    assert b"".join(seen) == b"one two"


def test_start_sets_limits_and_never_a_core_file() -> None:
    seen: list[bytes] = []
    launch = Launch(limits=Limits(address_space=1 << 30, open_files=50), on_output=seen.append)
    children.run(["sh", "-c", "ulimit -v; ulimit -n; ulimit -c"], launch, timeout_seconds=10)
    assert b"".join(seen).split() == [b"1048576", b"50", b"0"]


def test_child_is_ended_with_its_whole_group() -> None:
    seen: list[bytes] = []
    with children.start(["sh", "-c", "sleep 60 & echo $!; wait"], Launch(on_output=seen.append)) as child:
        while not seen:
            assert not child.ends_within(0.01)
        grandchild = int(seen[0])
    assert child.poll() is not None
    assert gone(grandchild)


def test_child_outlives_the_thread_that_started_it() -> None:
    started: list[children.Child] = []
    thread = threading.Thread(target=lambda: started.append(children.start(["sleep", "60"])))
    thread.start()
    thread.join()
    with started[0] as child:
        assert not child.ends_within(0.3)


def test_child_dies_with_an_owner_that_is_killed() -> None:
    code = (
        "from tasks.engine import children; print(children.start(['sleep', '60']).pid, flush=True); import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        os.kill(pid, 0)
        owner.kill()
    assert gone(pid)
