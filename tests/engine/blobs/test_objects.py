"""The contract of ObjectStore, over a real S3 server and over its memory twin; then what S3 alone can get wrong."""

from __future__ import annotations

import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import PAGE_SIZE, Missing, ObjectStore
from tasks.engine.blobs.s3 import S3Address, open_bucket
from tasks.engine.errors import Damaged, Refused, StoreUnavailable

if TYPE_CHECKING:
    from conftest import S3Server

STORES = [pytest.param("memory_bucket", id="memory"), pytest.param("s3_bucket", id="s3", marks=pytest.mark.server)]


@pytest.fixture(params=STORES)
def bucket(request: pytest.FixtureRequest) -> ObjectStore:
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(params=STORES)
def no_bucket(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory_bucket":
        return MemoryObjects(exists=False)
    server: S3Server = request.getfixturevalue("s3_server")
    return open_bucket(server.address, "never-made", patience=0)


@pytest.mark.parametrize("body", [b"", b"x", bytes(3 << 20)], ids=["empty", "byte", "3MiB"])
def test_put_then_get_and_stat(bucket: ObjectStore, body: bytes) -> None:
    bucket.put("a/b", body)
    assert bucket.get("a/b", limit=len(body)) == body
    assert bucket.stat("a/b") == len(body)


def test_put_again_replaces(bucket: ObjectStore) -> None:
    bucket.put("key", b"old")
    bucket.put("key", b"newer")
    assert bucket.get("key", limit=9) == b"newer"


def test_absent_key_is_missing(bucket: ObjectStore, tmp_path: Path) -> None:
    for call in (
        lambda: bucket.get("absent", limit=1),
        lambda: bucket.stat("absent"),
        lambda: bucket.download("absent", tmp_path / "file"),
    ):
        with pytest.raises(Missing, match="absent"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_get_longer_than_limit_is_damaged(bucket: ObjectStore) -> None:
    bucket.put("key", b"abc")
    with pytest.raises(Damaged, match="3 bytes"):
        bucket.get("key", limit=2)


def test_delete_twice_is_the_same(bucket: ObjectStore) -> None:
    bucket.put("key", b"abc")
    bucket.delete("key")
    bucket.delete("key")
    assert list(bucket.list("")) == []


def test_list_is_ascending_under_prefix_and_behind_after(bucket: ObjectStore) -> None:
    for key in ("b/2", "a/9", "b/1", "b/3", "c"):
        bucket.put(key, key.encode())
    assert [info.key for info in bucket.list("")] == ["a/9", "b/1", "b/2", "b/3", "c"]
    assert [(info.key, info.size) for info in bucket.list("b/", after="b/1")] == [("b/2", 3), ("b/3", 3)]
    assert all(abs(info.modified.timestamp() - time.time()) < 60 for info in bucket.list(""))


def test_create_again_keeps_content(bucket: ObjectStore) -> None:
    bucket.put("key", b"abc")
    bucket.create()
    bucket.ping()
    assert bucket.stat("key") == 3


def test_bucket_nobody_made_is_refused(no_bucket: ObjectStore) -> None:
    for call in (
        no_bucket.ping,
        lambda: no_bucket.put("k", b"x"),
        lambda: no_bucket.get("k", limit=1),
        lambda: list(no_bucket.list("")),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "store.bucket"


def test_file_goes_up_and_down(bucket: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * (80 << 10)  # 20 MiB: more than one part
    (tmp_path / "up").write_bytes(content)
    bucket.upload("file", tmp_path / "up")
    bucket.download("file", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content


@pytest.mark.server
def test_presigned_address_serves_the_object(s3_bucket: ObjectStore) -> None:
    s3_bucket.put("exports/disk.raw", b"content")
    with urllib.request.urlopen(s3_bucket.presign("exports/disk.raw", seconds=60)) as reply:
        assert reply.read() == b"content"


@pytest.mark.server
def test_list_goes_over_pages(s3_bucket: ObjectStore) -> None:
    keys = [f"many/{number:05}" for number in range(PAGE_SIZE + 5)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3_bucket.put(key, b"x"), keys))
    assert [info.key for info in s3_bucket.list("many/")] == keys


@pytest.mark.server
@pytest.mark.parametrize(("access", "secret"), [("tests", "wrong"), ("nobody", "wrong")])
def test_wrong_credentials_are_refused_at_once(s3_server: S3Server, access: str, secret: str) -> None:
    bucket = open_bucket(S3Address(s3_server.address.endpoint, access, secret), "started")
    for call in (bucket.ping, lambda: bucket.stat("k"), lambda: bucket.put("k", b"x"), lambda: list(bucket.list(""))):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "store.credentials"


def test_nobody_listening_is_one_clear_error() -> None:
    bucket = open_bucket(S3Address("127.0.0.1:9", "tests", "secret"), "bucket", patience=0.5)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"store\.unavailable: the store cannot be reached: .*refused.*ims status"):
        bucket.put("k", b"x")
    assert time.monotonic() - began < 5


def test_server_that_is_not_s3_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(_answer_once, listener, b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno")
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Refused) as caught:
            open_bucket(S3Address(endpoint, "tests", "secret"), "bucket").get("k", limit=1)
    assert caught.value.code == "store.endpoint"


def test_proxy_error_page_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(_answer_once, listener, b"HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno")
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="502"):
            open_bucket(S3Address(endpoint, "tests", "secret"), "bucket", patience=0).get("k", limit=1)


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)
