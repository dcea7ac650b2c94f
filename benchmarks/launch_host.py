"""A host for the launch benchmarks: an IMS_HOME of its own, libvirt, and the host agent, which every launch finds cold.

The store is given; the guests are `launch_guests`' matter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.embedded import libvirt_services, services
from deployments.embedded.agent import serves_nbd
from tasks.engine.blobs.s3 import S3Address
from tasks.engine.guests.accelerator import choose_accelerator
from tasks.engine.settings import Settings

PUBLISHED_SECONDS = 1.2
"""More than twice what the server lets pass between two publications of its counters."""

NO_GUESTS = "test:///default"
"""libvirt's own make-believe host: the agent must not look after guests that are not this benchmark's."""


@dataclass(slots=True)
class Host:
    """One machine that launches guests."""

    settings: Settings
    bucket: str
    store: S3Address
    _agent: subprocess.Popen[bytes] | None = None

    def restart_agent(self) -> None:
        """The agent as it is on a host that has never seen any image."""
        self.stop_agent()
        shutil.rmtree(self.settings.cache, ignore_errors=True)
        with (self.settings.home / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "tasks.engine.host"], env=self._environment(), stdout=log, stderr=log
            )
        wait_until(lambda: serves_nbd(self.settings.exports_socket), seconds=60)

    def stop_agent(self) -> None:
        """End the agent and, with it, its server."""
        if self._agent is not None:
            self._agent.terminate()
            self._agent.wait()
            self._agent = None

    def counters(self) -> dict[str, Any]:
        """What the server has published once it has had time to."""
        time.sleep(PUBLISHED_SECONDS)
        counters: dict[str, Any] = json.loads((self.settings.exports_socket.parent / "nbd-stats.json").read_text())
        return counters

    def server_peak_bytes(self) -> int:
        """The most memory that nbdkit has had."""
        assert self._agent is not None  # asked only while it serves
        children = Path(f"/proc/{self._agent.pid}/task/{self._agent.pid}/children").read_text().split()
        status = Path(f"/proc/{children[0]}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    def cached(self) -> set[str]:
        """Digests of the chunks that have been fetched."""
        return {path.name for path in self.settings.cache.glob("??/*")}

    def kvm(self) -> bool:
        """Whether its guests run under KVM."""
        return choose_accelerator(self.settings.accelerator, home=self.settings.home).kind == "kvm"

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "IMS_HOME": str(self.settings.home),
            "IMS_S3_ENDPOINT": self.store.endpoint,
            "IMS_S3_ACCESS_KEY": self.store.access_key,
            "IMS_S3_SECRET_KEY": self.store.secret_key,
            "IMS_IMAGES_BUCKET": self.bucket,
            "IMS_LIBVIRT_URI": NO_GUESTS,
        }


@contextmanager
def launch_host(home: Path, *, store: S3Address, bucket: str) -> Iterator[Host]:
    """The host, its home in a folder that QEMU's user can enter; everything it started has ended after the block."""
    for folder in (home, home / "run", home / "logs", home / "ecs"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    host = Host(settings=Settings(home=home), bucket=bucket, store=store)
    with _libvirt(host.settings):
        try:
            yield host
        finally:
            host.stop_agent()


@contextmanager
def _libvirt(settings: Settings) -> Iterator[None]:
    """libvirt, started where nobody runs it, and stopped then unless somebody else has come to use it."""
    wanted = libvirt_services.applies(settings) and not libvirt_services.has_service_manager()
    started = [name for name in libvirt_services.NAMES if wanted and not libvirt_services.serves(name)]
    for name in started:
        services.start(settings.home, libvirt_services.service(name))
    try:
        yield
    finally:
        record = services.read_record(settings.home, "libvirtd")
        if record is None or not libvirt_services.in_use(record.pid):
            for name in reversed(started):
                services.stop(settings.home, name, seconds=10)


def wait_until(condition: Callable[[], bool], *, seconds: float, every: float = 0.01) -> None:
    """Until it holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(every)
