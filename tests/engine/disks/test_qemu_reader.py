"""Foreign images through caged QEMU: same content in every format, holes skipped, lies and deaths reported in one line."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cage_fixtures import SIZE, content_digest, file_digest, found, qemu_img, scattered_disk

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.errors import DiskRefused

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scattered_disk(tmp_path_factory.mktemp("disk") / "disk.raw")


@pytest.fixture
def image(disk: Path, tmp_path: Path) -> Path:
    return converted(disk, tmp_path / "image", "qcow2")


def converted(disk: Path, image: Path, options: str) -> Path:
    qemu_img("convert", "-f", "raw", disk, image, "-O", *options.split())
    return image


def opened(image: Path) -> QemuReader:
    return QemuReader(Window(image), found(image))


@pytest.mark.parametrize(
    "options",
    [
        "qcow2",
        "qcow2 -o compat=0.10",
        "qcow2 -c",
        "qcow2 -c -o compression_type=zstd",
        "qcow2 -o extended_l2=on,cluster_size=128k",
        "qcow",
        "vmdk",
        "vmdk -o subformat=streamOptimized",
        "vpc -o force_size=on",
        "vpc -o subformat=fixed,force_size=on",
        "vhdx",
        "vhdx -o subformat=fixed",
        "vdi",
    ],
)
def test_qemu_reader_content_is_the_same_in_every_format(disk: Path, tmp_path: Path, options: str) -> None:
    with opened(converted(disk, tmp_path / "image", options)) as reader:
        assert reader.virtual_size == SIZE
        assert content_digest(reader) == file_digest(disk)


@pytest.mark.parametrize("options", ["qcow2", "vmdk", "vpc -o force_size=on", "vhdx -o block_size=1M", "vdi"])
def test_qemu_reader_skips_holes(tmp_path: Path, options: str) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(700 << 20)
        file.write(b"data" * 1024)
    with opened(converted(raw, tmp_path / "image", options)) as reader:
        assert {chunk.index for chunk in reader.pending_chunks()} <= {700, 701}


def test_qemu_reader_sparse_terabyte_is_mapped_in_no_time(tmp_path: Path) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", image, "1T")
    started = time.monotonic()
    with opened(image) as reader:
        assert list(reader.pending_chunks()) == []
    assert time.monotonic() - started < 10


def test_qemu_reader_window_of_an_archive(image: Path, disk: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    content = image.read_bytes()
    archive.write_bytes(bytes(1536) + content + bytes(-len(content) % 512) + b"next member" * 1000)
    with QemuReader(Window(archive, 1536, len(content)), found(image)) as reader:
        assert content_digest(reader) == file_digest(disk)


def test_qemu_reader_serves_many_threads(image: Path, disk: Path) -> None:
    with opened(image) as reader, ThreadPoolExecutor(40) as threads:
        chunks = list(reader.pending_chunks()) * 20
        expected = disk.read_bytes()
        for chunk, data in zip(chunks, threads.map(lambda chunk: chunk.read(), chunks), strict=True):
            assert data == expected[chunk.index << 20 : (chunk.index + 1) << 20]


def test_qemu_reader_size_that_headers_did_not_tell_is_refused(image: Path) -> None:
    with pytest.raises(DiskRefused, match=r"disk\.header_mismatch"):
        QemuReader(Window(image), replace(found(image), virtual_size=SIZE + 512))


def test_qemu_reader_gives_the_last_words_of_qemu(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"not a VMDK" * 1000)
    with pytest.raises(DiskRefused, match=r"disk\.unreadable: .*(not in VMDK format|[Ii]nvalid|Unsupported image type)"):
        QemuReader(Window(image), Finding(DiskFormat.VMDK, SIZE))


def test_qemu_reader_damaged_cluster_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(random.Random(1).randbytes(1 << 16) * 16 + b"text" * (1 << 18))
    image = converted(raw, tmp_path / "image", "qcow2 -c")
    with QemuReader(Window(image), found(image)) as reader:
        damaged = image.stat().st_size - 4096
        with image.open("r+b") as file:
            file.seek(damaged)
            file.write(b"\xff" * 4096)
        with pytest.raises(DiskRefused, match=r"disk\.unreadable"):
            content_digest(reader)


def test_qemu_reader_death_of_qemu_is_reported(image: Path) -> None:
    with opened(image) as reader:
        chunks = list(reader.pending_chunks())
        os.killpg(reader.child.pid, signal.SIGKILL)
        with pytest.raises(DiskRefused, match=r"disk\.unreadable"):
            chunks[0].read()


def test_qemu_reader_that_gets_no_answer_gives_up(image: Path) -> None:
    with QemuReader(Window(image), found(image), stall_seconds=0.5) as reader:
        chunks = list(reader.pending_chunks())
        os.killpg(reader.child.pid, signal.SIGSTOP)
        with pytest.raises(DiskRefused, match="no answer"):
            chunks[0].read()


def test_qemu_reader_has_no_file_that_could_be_left(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with opened(image) as reader:
        assert list(folder.iterdir()) == []
        assert reader.child.poll() is None
    assert reader.child.poll() is not None


def test_qemu_reader_that_fails_to_open_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    image = tmp_path / "image"
    shutil.copy("/bin/true", image)
    with pytest.raises(DiskRefused):
        QemuReader(Window(image), Finding(DiskFormat.QCOW2, SIZE))
    assert list(folder.iterdir()) == []
