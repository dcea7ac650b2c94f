"""Which operations a host's watcher has closed. That it does so in time is tests/flows/ecs/test_hosts.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.watching import THEIR_CHANCE, is_ours_to_close
from models.tables import Operation, utc_now
from tasks.holders import this_process

DEAD = {"lease_pid": 1 << 22, "lease_started": "0"}
LATER = THEIR_CHANCE.total_seconds() + 1


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMS_HOST", "here")


def operation(*, host: str = "here", lease_ends_in: float = 60, **values: object) -> Operation:
    me = this_process()
    held = {"lease_pid": me.pid, "lease_started": me.started, "lease_token": "t", "lease_host": host, **values}
    ends = utc_now() + timedelta(seconds=lease_ends_in)
    return Operation(kind="launch", account="admin", key="k", lease_expires_at=ends, **held)


def test_live_run_of_this_host_is_left_alone() -> None:
    assert not is_ours_to_close(operation())


def test_dead_run_of_this_host_is_closed_before_its_lease_ends() -> None:
    assert is_ours_to_close(operation(**DEAD))


def test_run_of_this_host_that_hangs_is_closed_when_its_lease_has_ended() -> None:
    assert is_ours_to_close(operation(lease_ends_in=-1))


def test_run_of_another_host_is_that_hosts_matter_at_first() -> None:
    assert not is_ours_to_close(operation(host="there", **DEAD))
    assert not is_ours_to_close(operation(host="there", lease_ends_in=-1, **DEAD))
    assert is_ours_to_close(operation(host="there", lease_ends_in=-LATER, **DEAD))
