"""The whole service, brought up once in a home of its own, and the `ims` command as a person runs it."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import Service

from deployments import embedded
from deployments.embedded import services
from models.accounts import get_account
from tasks.engine.settings import load_settings
from tasks.resources import catalog


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The embedded services of a fresh IMS_HOME, and its command."""
    home = Path(tempfile.mkdtemp(prefix="ims-flows-", dir="/var/tmp"))
    home.chmod(0o711)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("IMS_", "PREFECT_"))]:
            patch.delenv(name)
        patch.setenv("IMS_HOME", str(home))
        patch.setenv("IMS_PREFECT_PORT", str(free_port()))
        try:
            embedded.up(load_settings())
            _raise_quota()
            with prefect_of(home):
                _hold_sweeps()
                try:
                    yield Service(home)
                finally:
                    for ecs in Service(home).run("ecs", "list").answer.get("ecs", []):
                        Service(home).run("ecs", "delete", ecs["id"])
        finally:
            embedded.down(load_settings())
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def unwatched(service: Service) -> Iterator[None]:
    """Without the host's watcher: what a killed run leaves stays until the test itself sees to it."""
    services.stop(service.home, "watcher", seconds=10)
    yield
    embedded.up(load_settings())


def _raise_quota() -> None:
    """One account makes the images of all these tests; what its limits do is tested in tests/models."""
    with catalog(write=True) as session:
        account = get_account(session, name="admin")
        account.max_images = 1000
        session.add(account)


def _hold_sweeps() -> None:
    """Objects that tests put into the inbox are imported when a test says so; tests of the sweep run it themselves."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("watch-inbox/watch-inbox")
        for schedule in deployment.schedules:
            client.update_deployment_schedule(deployment.id, schedule.id, active=False)


@contextmanager
def prefect_of(home: Path) -> Iterator[None]:
    """Point Prefect at the server of `home` whenever it was imported, and spare each flow the wait for its heartbeat."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    forget_events_worker()
    updates = {
        PREFECT_API_URL: load_settings().prefect_api_url,
        PREFECT_API_AUTH_STRING: (home / "prefect.login").read_text().strip(),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(updates):
        yield


def forget_events_worker() -> None:
    """Prefect's sender of events keeps the server that it began with; other tests may have begun it with one that is gone."""
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)


def free_port() -> int:
    """A port of our own, so that a service on the usual one is left alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def folder(service: Service) -> Path:
    """Where the tests' own files lie; caged QEMU and guests can reach it."""
    path = service.home / "test-files"
    path.mkdir(mode=0o711)
    return path


@pytest.fixture(scope="session")
def sample(sample_disk: Path, folder: Path) -> Path:
    """The sample guest's raw disk, in a folder where tests put what they make of it."""
    return Path(shutil.copyfile(sample_disk, folder / "sample.raw"))


@pytest.fixture
def data_disk(folder: Path) -> Iterator[Callable[..., Path]]:
    """Makes raw disks without any system: `data_disk(seed, mib=8)`."""
    made: list[Path] = []

    def make(seed: int, *, mib: int = 8) -> Path:
        path = folder / f"data-{seed}-{mib}.raw"
        with path.open("wb") as file:
            for _ in range(mib):
                file.write(random.Random(seed * 1000 + file.tell()).randbytes(1 << 20))
        made.append(path)
        return path

    yield make
    for path in made:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def sample_image(service: Service, sample: Path) -> dict[str, Any]:
    """The sample guest imported as VMDK, with inspection and boot proof."""
    vmdk = service.convert(sample, "vmdk")
    return service.ims("image", "import", str(vmdk), "--name", "sample")
