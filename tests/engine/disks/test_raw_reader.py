"""Raw disks are read straight from the file: holes skipped, windows kept, what looks like another format stays raw."""

from __future__ import annotations

from pathlib import Path

import pytest
from cage_fixtures import SIZE, content_digest, file_digest, qemu_img, scattered_disk

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.raw_reader import RawReader
from tasks.engine.errors import DiskRefused


def opened(path: Path, *, offset: int = 0, size: int = -1) -> RawReader:
    length = path.stat().st_size - offset if size < 0 else size
    return RawReader(Window(path, offset, size), Finding(DiskFormat.RAW, length))


def test_raw_reader_content(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with opened(disk) as reader:
        assert content_digest(reader) == file_digest(disk)
        assert sum(1 for _ in reader.pending_chunks()) < SIZE >> 20


def test_raw_reader_last_chunk_is_short(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with opened(disk) as reader:
        *_, last = reader.pending_chunks()
        assert (last.index, len(last.read())) == (SIZE >> 20, 1536)


def test_raw_reader_holes_cost_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"x" * 4096)
    with opened(disk) as reader:
        assert [chunk.index for chunk in reader.pending_chunks()] == [1 << 19]


@pytest.mark.parametrize(("offset", "size"), [(0, 1 << 20), (512, 3 << 20), ((5 << 20) + 512, -1)])
def test_raw_reader_window(tmp_path: Path, offset: int, size: int) -> None:
    disk = scattered_disk(tmp_path / "disk")
    content = disk.read_bytes()[offset : None if size < 0 else offset + size]
    expected = tmp_path / "expected"
    expected.write_bytes(content)
    with opened(disk, offset=offset, size=size) as reader:
        assert content_digest(reader) == file_digest(expected)


def test_raw_reader_disk_that_begins_like_qcow2_stays_raw(tmp_path: Path) -> None:
    secret, disk = scattered_disk(tmp_path / "secret"), tmp_path / "disk"
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", disk)
    with opened(disk) as reader:
        assert content_digest(reader) == file_digest(disk)


def test_raw_reader_file_that_changed_its_size_is_refused(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with pytest.raises(DiskRefused, match=r"disk\.truncated"):
        RawReader(Window(disk), Finding(DiskFormat.RAW, SIZE + 512))


def test_raw_reader_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk")
    with opened(disk) as reader:
        *_, last = reader.pending_chunks()
        with disk.open("r+b") as file:
            file.truncate(SIZE - 512)
        with pytest.raises(DiskRefused, match=r"disk\.truncated"):
            last.read()
