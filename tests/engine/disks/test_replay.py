"""A VHDX with a dirty log: replayed on a private copy, the original untouched, the copy examined again."""

from __future__ import annotations

import bz2
import hashlib
from pathlib import Path

import pytest
from cage_fixtures import content_digest, found, qemu_img, scattered_disk

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.opening import open_disk
from tasks.engine.disks.replay import copy_sparse, replayed
from tasks.engine.errors import DiskRefused

_DIRTY = Path(__file__).resolve().parents[4] / "shared/corpus/qemu/iotest-dirtylog-10G-4M.vhdx.bz2"

pytestmark = pytest.mark.server


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    if not _DIRTY.exists():
        pytest.skip("the sample corpus is not here")
    path = tmp_path / "dirty.vhdx"
    path.write_bytes(bz2.decompress(_DIRTY.read_bytes()))
    return path


def scratch_of(path: Path) -> Path:
    scratch = path.parent / "scratch"
    scratch.mkdir()
    return scratch


def test_open_disk_replays_a_dirty_log(dirty: Path) -> None:
    finding, scratch, before = found(dirty), scratch_of(dirty), dirty.read_bytes()
    assert finding.needs_replay
    with open_disk(Window(dirty), finding, scratch=scratch) as reader:
        assert reader.virtual_size == 10 << 30
        read = {chunk.index: hashlib.sha256(chunk.read()).hexdigest() for chunk in reader.pending_chunks()}
    assert list(scratch.iterdir()) == []
    assert dirty.read_bytes() == before
    peer = dirty.parent / "peer.vhdx"
    peer.write_bytes(before)
    qemu_img("check", "-r", "all", peer)
    with open_disk(Window(peer), found(peer), scratch=scratch) as reader:
        assert read == {chunk.index: hashlib.sha256(chunk.read()).hexdigest() for chunk in reader.pending_chunks()}


def test_open_disk_replays_inside_an_archive(dirty: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(512) + dirty.read_bytes() + b"next member")
    with open_disk(Window(archive, 512, dirty.stat().st_size), found(dirty), scratch=scratch_of(dirty)) as reader:
        assert any(chunk.read() for chunk in reader.pending_chunks())


def test_open_disk_whose_log_makes_it_another_disk_is_refused(dirty: Path) -> None:
    lying = Finding(DiskFormat.VHDX, 20 << 30, needs_replay=True)
    scratch = scratch_of(dirty)
    with pytest.raises(DiskRefused, match=r"disk\.header_mismatch"):
        open_disk(Window(dirty), lying, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_replayed_file_that_is_no_vhdx_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiskRefused, match=r"disk\.unreadable"):
        replayed(Window(scattered_disk(tmp_path / "disk")), scratch=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


def test_copy_sparse_keeps_holes_and_content(tmp_path: Path) -> None:
    disk = scattered_disk(tmp_path / "disk", size=64 << 20)
    copy = tmp_path / "copy"
    assert copy_sparse(Window(disk, 512), copy) == (64 << 20) - 512
    assert hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(disk.read_bytes()[512:]).digest()
    assert copy.stat().st_blocks * 512 < 16 << 20
    assert copy.stat().st_mode & 0o777 == 0o600


def test_open_disk_clean_vhdx_is_not_copied(tmp_path: Path) -> None:
    disk, image = scattered_disk(tmp_path / "disk"), tmp_path / "image"
    qemu_img("convert", "-f", "raw", disk, "-O", "vhdx", image)
    with open_disk(Window(image), found(image), scratch=tmp_path / "absent") as reader:
        assert content_digest(reader) == hashlib.sha256(disk.read_bytes()).hexdigest()
