"""The proxy of the fault run, before a real S3 server and with the service's own client."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from s3_servers import S3Server

from benchmarks.faults.proxy import SLOW_SECONDS, FaultProxy, Mode
from tasks.engine.blobs.objects import Missing, ObjectStore
from tasks.engine.blobs.s3 import open_bucket
from tasks.engine.errors import StoreUnavailable

pytestmark = pytest.mark.server
BODY = os.urandom(3 << 20)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    made = FaultProxy(s3_server.address.endpoint)
    yield made
    made.close()


@pytest.fixture
def bucket_name(s3_server: S3Server) -> str:
    name = f"test-{uuid.uuid4().hex}"
    open_bucket(s3_server.address, name).create()
    return name


def through(proxy: FaultProxy, server: S3Server, bucket: str, *, patience: float = 0.5) -> ObjectStore:
    return open_bucket(replace(server.address, endpoint=proxy.endpoint), bucket, patience=patience)


def test_proxy_passes_everything_unchanged(proxy: FaultProxy, s3_server: S3Server, bucket_name: str) -> None:
    objects = through(proxy, s3_server, bucket_name)
    objects.put("some/key", BODY)
    assert objects.get("some/key", limit=len(BODY)) == BODY
    assert objects.stat("some/key") == len(BODY)
    assert [found.key for found in objects.list("some/")] == ["some/key"]
    objects.delete("some/key")
    with pytest.raises(Missing):
        objects.stat("some/key")
    with pytest.raises(Missing):
        objects.get("some/key", limit=10)


@pytest.mark.parametrize("mode", [Mode.ANSWER_503, Mode.DROP, Mode.STOP])
def test_failing_store_is_unavailable_and_never_without_the_object(
    proxy: FaultProxy, s3_server: S3Server, bucket_name: str, mode: Mode
) -> None:
    objects = through(proxy, s3_server, bucket_name)
    objects.put("key", BODY)
    proxy.switch(mode)
    for call in (
        lambda: objects.get("key", limit=len(BODY)),
        lambda: objects.stat("key"),
        lambda: objects.put("other", BODY),
        lambda: list(objects.list("")),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    proxy.switch(Mode.PASS)
    assert objects.get("key", limit=len(BODY)) == BODY


@pytest.mark.parametrize("mode", [Mode.ANSWER_503, Mode.DROP, Mode.STOP])
def test_short_failure_is_repeated_by_the_client(proxy: FaultProxy, s3_server: S3Server, bucket_name: str, mode: Mode) -> None:
    objects = through(proxy, s3_server, bucket_name, patience=8)
    objects.put("key", BODY)
    before = proxy.requests
    proxy.at(1, lambda: proxy.switch(mode))
    threading.Timer(1, proxy.switch, [Mode.PASS]).start()
    assert objects.get("key", limit=len(BODY)) == BODY
    assert proxy.requests > before + (0 if mode is Mode.STOP else 1)


def test_slow_store_answers_after_a_while(proxy: FaultProxy, s3_server: S3Server, bucket_name: str) -> None:
    objects = through(proxy, s3_server, bucket_name)
    objects.put("key", b"small")
    proxy.switch(Mode.SLOW)
    began = time.monotonic()
    assert objects.get("key", limit=10) == b"small"
    assert time.monotonic() - began >= SLOW_SECONDS
