"""A second host on this machine: its own libvirt in a mount namespace, its own IMS_HOME, worker, NBD server and watcher. The
catalog, the store and the Prefect server are those of the first. No tests here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Service

from deployments.embedded import processes
from deployments.embedded.services import read_record
from tasks.engine.settings import load_settings

NAME = "second"
HIDDEN = ("/run", "/etc/libvirt/qemu", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
"""What libvirt's daemons keep for the whole machine: each is empty in there."""
SHARED = ("IMS_S3_ENDPOINT", "IMS_S3_ACCESS_KEY", "IMS_S3_SECRET_KEY", "IMS_PREFECT_API_URL", "IMS_PREFECT_AUTH", "IMS_API_KEY")


@dataclass(frozen=True)
class SecondHost:
    """The host while its namespace lives."""

    home: Path
    holder: subprocess.Popen[bytes]

    @property
    def uri(self) -> str:
        """Its libvirt, as the first host reaches it."""
        return f"qemu+unix:///system?socket=/proc/{self.holder.pid}/root/run/libvirt/libvirt-sock"

    def ims(self, *arguments: str) -> dict[str, Any]:
        """A command as it is run there; it must succeed."""
        enter = ["nsenter", "-t", str(self.holder.pid), "-m", "--"]
        command = [*enter, sys.executable, "-m", "flows.cli", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), timeout=300)
        assert done.returncode == 0, f"ims {arguments} on {NAME}: {done.stdout} {done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def domains(self) -> list[str]:
        """The guests that its libvirt knows."""
        command = ["virsh", "-c", self.uri, "list", "--all", "--name"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    @contextmanager
    def standing_still(self, *names: str) -> Iterator[None]:
        """Stop services and all that they started where they are, and let them go on afterwards."""
        found = [read_record(self.home, name) for name in names]
        pids = [pid for record in found if record for pid in processes.descendants(record.token)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill(self, service: str) -> None:
        """Kill -9 a service and all that it started, such as the runs of the worker."""
        record = read_record(self.home, service)
        assert record is not None
        for pid in list(processes.descendants(record.token)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def lives(self, service: str) -> bool:
        """Whether the service runs."""
        record = read_record(self.home, service)
        return record is not None and processes.is_alive(record)

    def runs(self) -> list[int]:
        """Processes in which its worker runs flows."""
        record = read_record(self.home, "worker")
        assert record is not None
        return [pid for pid in processes.descendants(record.token) if b"-m\0prefect.engine" in _words(pid)]

    def end(self) -> None:
        """Stop what runs there."""
        with suppress(AssertionError):
            self.ims("down")
        self.holder.kill()
        self.holder.wait()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMS_", "PREFECT_"))}
        return kept | {"IMS_HOME": str(self.home)}


def start_second(service: Service) -> SecondHost:
    """Make the namespace and bring the host up in it."""
    home = service.home.with_name(f"{service.home.name}-{NAME}")
    home.mkdir(mode=0o711)
    _write_settings(home, service.home)
    hide = " && ".join(f"mount -t tmpfs -o mode=0755 none {folder}" for folder in HIDDEN)
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{hide} && echo ready && exec sleep infinity"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"ready\n"
    second = SecondHost(home, holder)
    second.ims("up")
    return second


def _write_settings(home: Path, first: Path) -> None:
    """What an operator writes on a host that joins others."""
    known = dict(line.split("=", 1) for line in (first / "settings.env").read_text().splitlines() if "=" in line)
    lines = {name: known[name] for name in SHARED if name in known}
    lines |= {"IMS_HOST": NAME, "IMS_DATABASE_URL": load_settings().catalog_url, "IMS_ACCELERATOR": "tcg"}
    file = home / "settings.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    file.chmod(0o600)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def seconds_until(condition: Callable[[], bool], *, limit: float) -> float:
    """How long it took to come true; fails after `limit` seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit, f"not within {limit} s"
        time.sleep(0.5)
    return time.monotonic() - begun
