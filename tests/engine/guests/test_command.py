"""Host commands: their failures in the service's words, and nothing of them left behind."""

from __future__ import annotations

import pytest

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.command import run


def test_output_of_a_command_is_given():
    assert run(["printf", "a"]) == "a"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["no-such-tool-here"], "host.tool_missing"),
        (["sh", "-c", "echo one >&2; echo two >&2; exit 3"], "host.command"),
        (["sleep", "30"], "host.timeout"),
    ],
)
def test_failure_has_its_code(command: list[str], code: str):
    with pytest.raises(HostUnavailable) as failure:
        run(command, timeout_seconds=0.5)
    assert failure.value.code == code


def test_complaint_is_the_last_line():
    with pytest.raises(HostUnavailable, match="sh failed: two"):
        run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"])
