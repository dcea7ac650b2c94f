"""One service: started until it serves, seen as it is, stopped; real small servers in place of the big ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.embedded import agent, ports, probes, services
from deployments.embedded.services import Service
from tasks.engine.errors import HostUnavailable

USUAL_PORT = 28333


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def web(folder: Path) -> Iterator[Service]:
    port = ports.public_port("IMS_NO_SUCH_PORT", remembered=None, usual=USUAL_PORT)
    service = Service(
        name="web",
        command=(sys.executable, "-m", "http.server", "--bind", ports.LOOPBACK, str(port)),
        address=f"http://{ports.LOOPBACK}:{port}",
        ready=lambda _since: probes.http_status(f"http://{ports.LOOPBACK}:{port}/") == 200,
    )
    yield service
    services.stop(folder, "web", seconds=5)


def test_start_returns_when_it_serves(folder: Path, web: Service) -> None:
    services.start(folder, web)
    assert services.look(folder, web).state == "running"
    assert services.is_current(folder, web)


def test_is_current_with_other_settings_is_false(folder: Path, web: Service) -> None:
    services.start(folder, web)
    changed = Service(name="web", command=web.command, address="", ready=web.ready, environment={"A": "1"})
    assert not services.is_current(folder, changed)


def test_look_after_kill_says_failed(folder: Path, web: Service) -> None:
    services.start(folder, web)
    os.kill(services.look(folder, web).pid or 0, signal.SIGKILL)
    time.sleep(0.2)
    seen = services.look(folder, web)
    assert (seen.state, seen.pid) == ("failed", None)


def test_look_at_a_frozen_process_says_failed(folder: Path, web: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.3)
    services.start(folder, web)
    pid = services.look(folder, web).pid or 0
    os.kill(pid, signal.SIGSTOP)
    assert services.look(folder, web).note == "does not answer"
    os.kill(pid, signal.SIGCONT)


def test_look_after_stop_says_stopped(folder: Path, web: Service) -> None:
    services.start(folder, web)
    services.stop(folder, "web", seconds=5)
    assert services.look(folder, web).state == "stopped"


def test_look_with_an_unreadable_record_says_stopped(folder: Path, web: Service) -> None:
    services.record_path(folder, "web").write_text("{}")
    assert services.look(folder, web).state == "stopped"


def test_start_of_what_dies_quotes_its_log(folder: Path) -> None:
    broken = Service(name="it", command=("/bin/sh", "-c", "echo no such key; exit 3"), address="", ready=lambda _since: False)
    with pytest.raises(HostUnavailable, match=r"host.service: it ended at once; its last words: no such key.*logs/it.log"):
        services.start(folder, broken)


def test_start_of_what_never_serves_ends_in_time(folder: Path) -> None:
    mute = Service(name="it", command=("sleep", "100"), address="", ready=lambda _since: False, start_seconds=0.3)
    with pytest.raises(HostUnavailable, match="does not answer after"):
        services.start(folder, mute)
    assert services.look(folder, mute).state == "failed"
    services.stop(folder, "it", seconds=5)


def test_inherited_environment_leaves_prefect_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere.example/api")
    assert "PREFECT_API_URL" not in services.inherited_environment()


def test_serves_nbd_is_polite(tmp_path: Path) -> None:
    socket = tmp_path / "nbd.sock"
    command = ["nbdkit", "--foreground", "--exit-with-parent", "--unix", str(socket), "null", "1M"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        while not socket.exists():
            time.sleep(0.02)
        assert agent.serves_nbd(socket)
        server.terminate()
        assert server.communicate()[1] == ""
    assert not agent.serves_nbd(socket)
