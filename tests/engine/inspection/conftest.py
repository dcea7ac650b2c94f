"""Small disks with partition tables that sfdisk made, and the sample guest behind an NBD server."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.engine.inspection.guestfs import DiskSource

MakeDisk = Callable[[str], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> MakeDisk:
    """A disk of 16 MiB with the partitions of an sfdisk script; an empty script makes an empty disk."""

    def make(script: str) -> Path:
        path = tmp_path / "disk.raw"
        with path.open("wb") as disk:
            disk.truncate(16 << 20)
        if script:
            subprocess.run(["/sbin/sfdisk", "--quiet", path], input=script.encode(), check=True, timeout=30)
        return path

    return make


@pytest.fixture(scope="session")
def served_sample(sample_disk: Path) -> Iterator[DiskSource]:
    """The sample guest's disk as an NBD export."""
    with tempfile.TemporaryDirectory(prefix="ims-tests-") as name:
        socket = Path(name, "nbd.sock")
        server = subprocess.Popen(["nbdkit", "--foreground", "--readonly", "--unix", str(socket), "file", str(sample_disk)])
        try:
            deadline = time.monotonic() + 30
            while not socket.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield DiskSource(socket, "sample")
        finally:
            server.kill()
            server.wait()
