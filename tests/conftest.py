"""What several folders of tests share: the sample guest's disk, built once, and this machine's libvirt."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deployments.embedded import libvirt_services
from deployments.sample_guest import build, fetch
from deployments.sample_guest.packages import default_folder
from tasks.engine.settings import load_settings

PACKAGES = default_folder()
"""Where `make setup` put the sample guest's packages; some tests have an IMS_HOME of their own later."""


@pytest.fixture(scope="session")
def packages() -> Path:
    """The sample guest's packages; downloads them where setup has not run yet."""
    fetch(PACKAGES)
    return PACKAGES


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """pytest's own folders are closed to QEMU's user; this one is not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ims-tests-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="session")
def sample_disk(packages: Path, open_folder: Path) -> Path:
    """The sample guest's raw disk; nobody writes to it."""
    folder = open_folder / "sample"
    folder.mkdir(mode=0o711)
    disk = build(folder / "sample.raw", packages=packages)
    disk.chmod(0o644)
    return disk


@pytest.fixture(scope="session")
def libvirt_uri() -> Iterator[str]:
    """The host's libvirt, started where nothing runs it, and then ended with the session."""
    settings = load_settings()
    with ExitStack() as started:
        if libvirt_services.applies(settings) and not libvirt_services.has_service_manager():
            for name in libvirt_services.NAMES:
                if not libvirt_services.serves(name):
                    started.enter_context(_daemon(name))
        yield settings.libvirt_uri


@contextmanager
def _daemon(name: str) -> Iterator[None]:
    """One of libvirt's daemons in the foreground."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([f"/usr/sbin/{name}"], start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 60
        while not libvirt_services.serves(name):
            assert child.poll() is None, f"{name} ended at once"
            assert time.monotonic() < deadline, f"{name} does not answer"
            time.sleep(0.1)
        yield
    finally:
        child.terminate()
        child.wait(timeout=30)
