"""Windows of files and prefixes of wrapped ones: what they give, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.engine.disks.bytesource import BeyondPrefix, FileBytes, PrefixBytes
from tasks.engine.disks.formats import Window
from tasks.engine.errors import DiskRefused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(100)))
    return file


def test_bytesource_window_reads_relative(path: Path) -> None:
    with FileBytes(Window(path, 10, 20)) as source:
        assert (source.size, source.pread(5, 3)) == (20, bytes((15, 16, 17)))


def test_bytesource_window_to_the_end(path: Path) -> None:
    with FileBytes(Window(path, 90)) as source:
        assert (source.size, source.pread(0, 10)) == (10, bytes(range(90, 100)))


@pytest.mark.parametrize(("offset", "length"), [(15, 6), (20, 1), (-1, 1), (0, 1 << 62)])
def test_bytesource_read_outside_the_window_refused(path: Path, offset: int, length: int) -> None:
    with FileBytes(Window(path, 10, 20)) as source, pytest.raises(DiskRefused, match=r"disk\.truncated"):
        source.pread(offset, length)


@pytest.mark.parametrize("window", [(0, 101), (101, -1), (50, 51)])
def test_bytesource_window_outside_the_file_refused(path: Path, window: tuple[int, int]) -> None:
    with pytest.raises(DiskRefused, match=r"disk\.truncated"):
        FileBytes(Window(path, *window))


def test_bytesource_file_cut_while_open_refused(path: Path) -> None:
    with FileBytes(Window(path)) as source:
        os.truncate(path, 50)
        with pytest.raises(DiskRefused, match=r"disk\.truncated"):
            source.pread(40, 20)


def test_bytesource_pipe_and_folder_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(DiskRefused, match=r"disk\.not_a_file"):
            FileBytes(Window(tmp_path / name))


def test_bytesource_prefix_ends_where_it_ends() -> None:
    prefix = PrefixBytes(b"abcdef")
    assert prefix.pread(2, 4) == b"cdef"
    with pytest.raises(BeyondPrefix):
        prefix.pread(2, 5)
    with pytest.raises(BeyondPrefix):
        _ = prefix.size
