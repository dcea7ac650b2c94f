"""Disks read from a real NBD server: its map where it has one, every chunk where it has none."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cage_fixtures import SIZE, content_digest, file_digest, scattered_disk

from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.errors import HostUnavailable

pytestmark = pytest.mark.server


@contextmanager
def served(folder: Path, *plugin: str | Path) -> Iterator[Path]:
    path = folder / "nbd.sock"
    child = subprocess.Popen(["nbdkit", "--exit-with-parent", "--foreground", "--readonly", "--unix", path, *plugin])
    try:
        while not path.exists():
            assert child.poll() is None
            time.sleep(0.02)
        yield path
    finally:
        child.kill()
        child.wait()


def test_nbd_reader_content_and_holes(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with served(tmp_path, "file", disk) as path, NbdReader(path) as reader:
        assert content_digest(reader) == file_digest(disk)
        assert sum(1 for _ in reader.pending_chunks()) < SIZE >> 20


def test_nbd_reader_server_without_a_map_is_read_whole(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with served(tmp_path, "--filter=noextents", "file", disk) as path, NbdReader(path) as reader:
        assert content_digest(reader) == file_digest(disk)
        assert sum(1 for _ in reader.pending_chunks()) == -(-SIZE // (1 << 20))


def test_nbd_reader_sparse_terabyte_is_mapped_in_no_time(tmp_path: Path) -> None:
    started = time.monotonic()
    with served(tmp_path, "memory", "1T") as path, NbdReader(path) as reader:
        assert list(reader.pending_chunks()) == []
    assert time.monotonic() - started < 10


def test_nbd_reader_unknown_export_is_unavailable(tmp_path: Path) -> None:
    with served(tmp_path, "file", f"dir={tmp_path}") as path, pytest.raises(HostUnavailable, match=r"host\.nbd.*absent"):
        NbdReader(path, export="absent")


def test_nbd_reader_server_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with served(tmp_path, "file", disk) as path:
        reader = NbdReader(path)
        chunks = list(reader.pending_chunks())
    with reader, pytest.raises(HostUnavailable, match=r"host\.nbd"):
        chunks[0].read()
