"""Checksums people give with a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tasks.engine.errors import RequestRefused, SourceRefused
from tasks.engine.sources.checksum import parse_checksum, verify_checksum


def test_verify_checksum_accepts_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"disk")
    seen: list[int] = []
    verify_checksum(tmp_path / "f", f"sha256:{hashlib.sha256(b'disk').hexdigest()}", on_bytes=seen.append)
    assert seen == [4]


def test_verify_checksum_refuses_another_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"disk")
    with pytest.raises(SourceRefused) as caught:
        verify_checksum(tmp_path / "f", "sha256:" + "0" * 64)
    assert caught.value.code == "source.checksum"


@pytest.mark.parametrize("text", ["", "md5:00", "sha256:", "sha256:" + "g" * 64, "0" * 64])
def test_parse_checksum_refuses_what_is_none(text: str) -> None:
    with pytest.raises(RequestRefused):
        parse_checksum(text)


def test_parse_checksum_folds_case() -> None:
    assert parse_checksum(" SHA256:" + "AB" * 32) == "sha256:" + "ab" * 32
