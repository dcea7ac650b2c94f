"""Who uses libvirt: running guests by their pid files, clients by the kernel's list of connections."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.embedded import libvirt_services


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """This process in libvirtd's place."""
    (tmp_path / "qemu").mkdir()
    monkeypatch.setattr(libvirt_services, "FOLDER", tmp_path)
    monkeypatch.setitem(libvirt_services.SOCKETS, "libvirtd", tmp_path / "libvirt-sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "libvirt-sock"))
        server.listen()
        yield server


def test_in_use_without_client_or_guest_is_false(daemon: socket.socket) -> None:
    assert libvirt_services.serves("libvirtd")
    daemon.accept()[0].close()
    assert not libvirt_services.in_use(os.getpid())


def test_in_use_with_a_client_is_true_for_that_daemon_alone(daemon: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.getsockname())
        with daemon.accept()[0]:
            assert libvirt_services.in_use(os.getpid())
            assert not libvirt_services.in_use(os.getppid())


@pytest.mark.parametrize(
    ("pid", "used"), [(str(os.getppid()), True), (str(os.getpid()), False), ("4194305", False), ("", False)]
)
def test_in_use_with_a_guests_pid_file(pid: str, used: bool, daemon: socket.socket, tmp_path: Path) -> None:
    (tmp_path / "qemu" / "it.pid").write_text(pid)
    assert libvirt_services.in_use(os.getpid()) == used
