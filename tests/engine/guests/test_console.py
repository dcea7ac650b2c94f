"""The console log: bounded, cleaned, and what its lines prove."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.guests.console import console_tail, plain_text, set_aside, shows_kernel, shows_login


def test_tail_of_a_missing_log_is_empty(tmp_path: Path):
    assert console_tail(tmp_path / "console.log") == ""


def test_tail_goes_on_into_the_rotated_part(tmp_path: Path):
    (tmp_path / "console.log.0").write_text("0123456789")
    (tmp_path / "console.log").write_text("abc")
    assert console_tail(tmp_path / "console.log", max_bytes=5) == "89abc"


def test_terminal_escapes_and_control_bytes_are_taken_out():
    assert plain_text(
        b"\x1b[2J\x1b]0;title\x07a\x00b\x9b\r\n\xff"
    ) == "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}\n" + ("\N{REPLACEMENT CHARACTER}")


def test_log_of_the_previous_run_is_set_aside(tmp_path: Path):
    log = tmp_path / "console.log"
    log.write_text("old")
    (tmp_path / "console.log.0").write_text("older")
    set_aside(log)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"console.previous.log": "old"}


@pytest.mark.parametrize("text", ["web-1 login: ", "\nDebian 12 web-1 ttyS0\n\nweb-1 login: [   9.1] usb"])
def test_getty_prompt_is_a_login(text: str):
    assert shows_login(text)


@pytest.mark.parametrize("text", ["", "Last login: Mon", "sshd: failed login: root"])
def test_other_talk_of_logins_is_none(text: str):
    assert not shows_login(text)


@pytest.mark.parametrize("text", ["Linux version 6.1.0", "[    0.000000] BIOS-e820"])
def test_kernel_lines_are_seen(text: str):
    assert shows_kernel(text)


def test_boot_loader_is_no_kernel():
    assert not shows_kernel("SYSLINUX 6.04\nLoading vmlinuz... ok")
