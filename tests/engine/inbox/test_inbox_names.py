"""Names in the inbox, most of them hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.validation import check_name as check_image_name
from tasks.engine.errors import RequestRefused
from tasks.engine.inbox.names import MAX_BYTES, Place, check_name, image_name, is_beside, place_of


@pytest.mark.parametrize("key", ["alice/disk.raw", "a-1/folder/of many/disk ü.qcow2"])
def test_place_of_an_upload(key: str) -> None:
    account, _, name = key.partition("/")
    assert place_of(key) == Place(account, name)


@pytest.mark.parametrize(
    "key",
    [
        "disk.raw",
        "/disk.raw",
        "alice/",
        "alice/../bob/disk.raw",
        "alice/./x",
        "alice//x",
        "Alice/x",
        "alice/x\n",
        "alice/\x00",
        "alice/\u202egnp.raw",
        "alice/\ud800",
        "-alice/x",
        f"alice/{'x' * 2000}",
        f"{'a' * 64}/x",
        "",
    ],
)
def test_place_of_what_cannot_be_is_refused(key: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        place_of(key)
    assert refused.value.code == "request.inbox_key"
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_check_name_counts_bytes() -> None:
    assert check_name("x" * MAX_BYTES)
    with pytest.raises(RequestRefused):
        check_name("ü" * (MAX_BYTES // 2 + 1))


@pytest.mark.parametrize(
    ("name", "beside"),
    [("disk.raw.json", True), ("disk.raw.result.json", True), ("x.JSON", True), ("disk.raw", False), ("json", False)],
)
def test_is_beside(name: str, beside: bool) -> None:
    assert is_beside(name) is beside


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("folder/debian-12.qcow2", "debian-12"),
        ("web server (1).vmdk.gz", "web-server-1"),
        ("backup.tar", "backup.tar"),
        (".raw", "image"),
        ("ünï.RAW", "n"),
        ("x" * 300 + ".raw", "x" * 128),
    ],
)
def test_image_name_follows_the_file(name: str, image: str) -> None:
    assert image_name(name) == image


@given(st.text(max_size=200))
def test_image_name_is_always_a_legal_name(name: str) -> None:
    assert check_image_name(image_name(name))
