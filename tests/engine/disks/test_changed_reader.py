"""What changed on a disk: an overlay file merged with its base, and the dirty bitmap that an NBD server tells."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cage_fixtures import SIZE, content_digest, file_digest, qemu_img, scattered_disk

from tasks.engine.disks.changed_reader import ChangedReader, OverlayReader
from tasks.engine.disks.nbd_reader import NbdReader
from tasks.engine.errors import HostUnavailable
from tasks.engine.geometry import CHUNK_SIZE

pytestmark = pytest.mark.server

LARGER = SIZE + (3 << 20) - 512
"""An overlay that grew beyond its base, whose last chunk is a part of one."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scattered_disk(tmp_path_factory.mktemp("base") / "base.raw")


def overlay_of(base: Path, folder: Path, *commands: str, size: int = LARGER, options: str = "") -> Path:
    overlay = folder / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", *options.split(), "-b", base, "-F", "raw", overlay, str(size))
    write(overlay, *commands)
    return overlay


def write(image: Path, *commands: str) -> None:
    if commands:
        arguments = [part for command in commands for part in ("-c", command)]
        subprocess.run(["qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, image], check=True, capture_output=True)


def chunks_from(raw: Path | None) -> Callable[[int], bytes]:
    content = raw.read_bytes() if raw else b""
    return lambda index: content[index * CHUNK_SIZE : (index + 1) * CHUNK_SIZE]


def opened(overlay: Path, base: Path | None, *, size: int = LARGER) -> OverlayReader:
    base_size = base.stat().st_size if base else size
    return OverlayReader(overlay, virtual_size=size, base_size=base_size, base=chunks_from(base))


def merged(reader: OverlayReader, base: Path | None) -> bytes:
    """The whole disk: pending chunks as the reader gives them, all others the base's."""
    content = bytearray((base.read_bytes() if base else b"").ljust(reader.virtual_size, b"\0"))
    for chunk in reader.pending_chunks():
        data = chunk.read()
        content[chunk.index * CHUNK_SIZE : chunk.index * CHUNK_SIZE + len(data)] = data
    assert len(content) == reader.virtual_size
    return bytes(content)


def flattened(overlay: Path) -> bytes:
    """The same chain as QEMU sees it."""
    raw = overlay.with_suffix(".raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", overlay, raw)
    return raw.read_bytes()


def pending(reader: OverlayReader | NbdReader) -> list[int]:
    return [chunk.index for chunk in reader.pending_chunks()]


@pytest.mark.parametrize("options", ["", "-o cluster_size=4k", "-o cluster_size=2M", "-o extended_l2=on"])
@pytest.mark.parametrize(
    "commands",
    [
        ["write -P 7 0 64k", "write -P 9 1500k 3M"],
        ["write -z 0 24M"],
        ["write -z 3000k 100k", "write -P 1 5000k 512"],
        ["write -P 5 2M 4M", "discard 3M 1M", "discard 9M 5M"],
        [f"write -P 3 {SIZE - 512} 4k", f"write -z {SIZE} 1M", f"write -P 2 {LARGER - 512} 512"],
        ["write -P 8 24M 1024", "write -P 8 25M 1M"],
    ],
)
def test_overlay_reader_content_is_what_qemu_sees(base: Path, tmp_path: Path, commands: list[str], options: str) -> None:
    overlay = overlay_of(base, tmp_path, *commands, options=options)
    with opened(overlay, base) as reader:
        assert merged(reader, base) == flattened(overlay)


def test_overlay_reader_hands_out_chunks_it_holds_anything_of(base: Path, tmp_path: Path) -> None:
    overlay = overlay_of(base, tmp_path, "write -P 7 3M 512", "write -z 6208k 64k", "discard 9M 1M", size=SIZE)
    with opened(overlay, base, size=SIZE) as reader:
        assert pending(reader) == [3, 6, 9]
        assert reader.held_bytes == (64 << 10) * 2 + (1 << 20)


@pytest.mark.parametrize(("size", "chunks"), [(SIZE, []), (LARGER, [24]), (SIZE // CHUNK_SIZE * CHUNK_SIZE + CHUNK_SIZE, [24])])
def test_overlay_reader_of_an_empty_overlay_renews_the_longer_chunk_alone(
    base: Path, tmp_path: Path, size: int, chunks: list[int]
) -> None:
    overlay = overlay_of(base, tmp_path, size=size)
    with opened(overlay, base, size=size) as reader:
        assert (pending(reader), reader.held_bytes) == (chunks, 0)
        assert merged(reader, base) == base.read_bytes().ljust(size, b"\0")


def test_overlay_reader_without_a_base_is_the_whole_disk(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-f", "qcow2", overlay, str(LARGER))
    write(overlay, "write -P 7 1000k 5M", "discard 2M 1M", "write -z 20M 1M", f"write -P 1 {LARGER - 512} 512")
    with opened(overlay, None) as reader:
        assert merged(reader, None) == flattened(overlay)
        assert len(pending(reader)) < 10


def test_overlay_reader_takes_only_its_own_bytes_where_the_base_changed(base: Path, tmp_path: Path) -> None:
    overlay = overlay_of(base, tmp_path, "write -P 7 1M 64k")
    with OverlayReader(overlay, virtual_size=LARGER, base_size=SIZE, base=lambda _: b"b" * CHUNK_SIZE) as reader:
        assert reader.read_chunk(1) == b"\7" * (64 << 10) + b"b" * (CHUNK_SIZE - (64 << 10))
        assert reader.read_chunk(2) == b"b" * CHUNK_SIZE


@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_overlay_reader_opens_no_file_that_the_overlay_names(tmp_path: Path, driver: str) -> None:
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-u", "-f", "qcow2", "-F", driver, "-b", "/etc/passwd", overlay, "4M")
    alone = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(overlay)}}
    subprocess.run(["qemu-io", "-c", "write -P 7 64k 64k", f"json:{json.dumps(alone)}"], check=True, capture_output=True)
    with opened(overlay, None, size=4 << 20) as reader:
        content = b"".join(map(reader.read_chunk, range(4)))
    assert content == (bytes(64 << 10) + b"\7" * (64 << 10)).ljust(4 << 20, b"\0")
    if driver == "raw":  # so that the name would have worked
        assert flattened(overlay).startswith(Path("/etc/passwd").read_bytes()[:64])


def test_overlay_reader_of_a_guest_that_runs_is_unavailable(base: Path, tmp_path: Path) -> None:
    overlay = overlay_of(base, tmp_path, "write -P 7 0 64k")
    with served(tmp_path, overlay), pytest.raises(HostUnavailable, match=r"host\.overlay_busy"):
        opened(overlay, base)
    with opened(overlay, base) as reader:
        assert reader.held_bytes == 64 << 10


@contextmanager
def served(folder: Path, image: Path, *options: str) -> Iterator[Path]:
    """qemu-nbd over an image, with the image's lock."""
    path = folder / "nbd.sock"
    child = subprocess.Popen(["qemu-nbd", "-f", "qcow2", "-t", "-e", "8", "-k", path, *options, image])
    try:
        deadline = time.monotonic() + 30
        while not path.exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield path
    finally:
        child.kill()
        child.wait()
        path.unlink(missing_ok=True)


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A disk with a bitmap that was begun after its first writes."""
    disk = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", disk, str(SIZE))
    write(disk, "write -P 1 0 4M", f"write -P 1 {SIZE - 512} 512")
    qemu_img("bitmap", "--add", disk, "since")
    return disk


def changes(path: Path, *, base_size: int = SIZE) -> ChangedReader:
    return ChangedReader(path, export="", context="qemu:dirty-bitmap:since", base_size=base_size)


def test_changed_reader_hands_out_dirty_chunks(noted: Path, tmp_path: Path) -> None:
    before = flattened(noted)
    write(noted, "write -P 2 1M 512", "write -z 3200k 64k", "write -P 2 7100k 1M", "write -P 1 5M 512", "discard 5M 64k")
    with served(tmp_path, noted, "-r", "-B", "since") as path, changes(path) as reader:
        assert pending(reader) == [1, 3, 5, 6, 7]
        content = bytearray(before)
        for chunk in reader.pending_chunks():
            content[chunk.index * CHUNK_SIZE : (chunk.index + 1) * CHUNK_SIZE] = chunk.read()
    assert content == flattened(noted)


def test_changed_reader_without_changes_has_nothing_to_read(noted: Path, tmp_path: Path) -> None:
    with served(tmp_path, noted, "-r", "-B", "since") as path, changes(path) as reader:
        assert pending(reader) == []


def test_changed_reader_over_a_smaller_base_renews_the_longer_chunk(noted: Path, tmp_path: Path) -> None:
    write(noted, "write -P 2 1M 512", "write -P 2 20M 512")
    with served(tmp_path, noted, "-r", "-B", "since") as path, changes(path, base_size=(9 << 20) + 512) as reader:
        assert pending(reader) == [1, 9, 20]


def test_changed_reader_without_the_bitmap_reads_everything(noted: Path, tmp_path: Path) -> None:
    with served(tmp_path, noted, "-r") as path, changes(path) as reader:
        assert pending(reader) == list(range(-(-SIZE // CHUNK_SIZE)))
        digest = content_digest(reader)
    flattened(noted)
    assert digest == file_digest(noted.with_suffix(".raw"))
