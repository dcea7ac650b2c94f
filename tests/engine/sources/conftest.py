"""Fixtures of the source tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sites import Site, serve


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as served:
        yield served
