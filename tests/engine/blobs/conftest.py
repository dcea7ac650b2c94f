"""Fixtures of the chunk store's tests: a real S3 server, started once a session, and a fresh bucket for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from s3_servers import S3Server, running_s3

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.s3 import open_bucket


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all tests of the session."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> ObjectStore:
    """A fresh bucket on the real server, as the service opens it."""
    bucket = open_bucket(s3_server.address, f"test-{uuid.uuid4().hex}")
    bucket.create()
    return bucket


@pytest.fixture
def memory_bucket() -> ObjectStore:
    """A fresh bucket in memory."""
    return MemoryObjects()
