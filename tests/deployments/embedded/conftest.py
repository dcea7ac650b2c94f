"""A fresh IMS_HOME per module, and its services brought up once; everything started is stopped again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import embedded
from tasks.engine.settings import Settings, load_settings


@pytest.fixture(autouse=True, scope="module")
def _no_inherited_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("IMS_", "PREFECT_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def home(_no_inherited_settings: None) -> Iterator[Path]:
    """An IMS_HOME that QEMU's user can enter, unlike pytest's own folders."""
    folder = Path(tempfile.mkdtemp(prefix="ims-embedded-"))
    folder.chmod(0o711)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMS_HOME", str(folder))
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site_settings(home: Path) -> Iterator[Settings]:
    """Settings of a home whose services are up."""
    try:
        embedded.up(load_settings())
        yield load_settings()
    finally:
        embedded.down(load_settings())
