"""Ports: remembered, moved when taken, refused when the user insisted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.embedded import ports
from tasks.engine.errors import RequestRefused

SETTING = "IMS_S3_PORT"
FREE = 29871


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_public_port_taken_is_moved(taken: int) -> None:
    chosen = ports.public_port(SETTING, remembered=None, usual=taken)
    assert chosen in ports.INTERNAL


def test_public_port_free_is_kept() -> None:
    assert ports.public_port(SETTING, remembered=FREE, usual=8333) == FREE


def test_public_port_taken_and_explicit_names_the_setting(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, str(taken))
    with pytest.raises(RequestRefused, match=rf"request.port: .*{taken} of {SETTING} is taken"):
        ports.public_port(SETTING, remembered=FREE, usual=8333)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_explicit_port_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, text)
    with pytest.raises(RequestRefused, match=SETTING):
        ports.explicit_port(SETTING)


def test_internal_ports_stay_while_free(tmp_path: Path) -> None:
    first = ports.internal_ports(("a", "b"), remembered=tmp_path / "ports.json")
    assert len(set(first.values())) == 2
    assert ports.internal_ports(("a", "b"), remembered=tmp_path / "ports.json") == first


def test_internal_ports_move_when_one_twin_is_taken(tmp_path: Path) -> None:
    first = ports.internal_ports(("a", "b"), remembered=tmp_path / "ports.json")
    with socket.create_server((ports.LOOPBACK, first["a"] + 10000)):
        assert ports.internal_ports(("a", "b"), remembered=tmp_path / "ports.json")["a"] != first["a"]


def test_port_of_a_server_that_is_just_ending_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = socket.create_server((ports.LOOPBACK, 0))
    port = server.getsockname()[1]
    monkeypatch.setenv(SETTING, str(port))
    threading.Timer(0.5, server.close).start()
    assert ports.public_port(SETTING, remembered=None, usual=8333) == port
