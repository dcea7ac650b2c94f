"""The guest's own BusyBox; booting the whole guest is running_sample.py's part."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.sample_guest.packages import contents, fetched


@pytest.fixture(scope="session")
def busybox(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's own BusyBox, so that its awk and its cpio are the ones that are tested."""
    target = tmp_path_factory.mktemp("busybox") / "busybox"
    with contents(fetched(packages)["busybox-static"]) as files:
        stream = files.extractfile("./bin/busybox")
        assert stream is not None
        target.write_bytes(stream.read())
    target.chmod(0o755)
    return target
