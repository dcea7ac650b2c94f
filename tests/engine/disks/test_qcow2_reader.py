"""Our own QCOW2 decoder against QEMU's: every cluster size and compression, holes, zero clusters, odd ends, damage."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

import pytest

from tasks.engine.disks import c_qcow2 as c
from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.opening import has_subclusters, open_disk
from tasks.engine.disks.qcow2_reader import Qcow2Reader
from tasks.engine.disks.qemu_reader import QemuReader
from tasks.engine.errors import DiskRefused
from tasks.engine.geometry import CHUNK_SIZE

SIZE = (7 << 20) + 512 * 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holes, noise, text, a lone byte in the middle of nowhere, and data to the very end."""
    chance = random.Random(5)
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, data in (
            (0, chance.randbytes(100_000)),
            (1 << 20, b"some text that packs well. " * 30_000),
            ((3 << 20) + 77_777, b"x"),
            (5 << 20, chance.randbytes(1 << 20)),
            (SIZE - 5000, chance.randbytes(5000)),
        ):
            file.seek(offset)
            file.write(data)
    return path


def convert(raw: Path, target: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, str(raw), str(target)], check=True)
    return target


def examine(path: Path) -> Finding:
    with FileBytes(Window(path)) as file:
        return gate.examine(file, declared=DiskFormat.QCOW2, max_virtual_size=1 << 40, depth="full")


def content(reader: Qcow2Reader | QemuReader) -> bytes:
    disk = bytearray(reader.virtual_size)
    seen: list[int] = []
    for pending in reader.pending_chunks():
        data = pending.read()
        seen.append(pending.index)
        disk[pending.index * CHUNK_SIZE : pending.index * CHUNK_SIZE + len(data)] = data
    assert seen == sorted(set(seen))
    return bytes(disk)


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
@pytest.mark.parametrize("cluster", [512, 4096, 65536, 1 << 20, 2 << 20])
def test_reader_gives_what_the_disk_holds(raw: Path, tmp_path: Path, cluster: int, compression: str) -> None:
    packed = [] if compression == "none" else ["-c", "-o", f"compression_type={compression}"]
    path = convert(raw, tmp_path / "disk.qcow2", "-o", f"cluster_size={cluster}", *packed)
    with Qcow2Reader(Window(path), examine(path)) as reader:
        assert content(reader) == raw.read_bytes()


@pytest.mark.parametrize("options", ["compat=0.10", "preallocation=metadata", "refcount_bits=1", "lazy_refcounts=on"])
def test_reader_knows_every_variant(raw: Path, tmp_path: Path, options: str) -> None:
    path = convert(raw, tmp_path / "disk.qcow2", "-o", options)
    with Qcow2Reader(Window(path), examine(path)) as reader:
        assert content(reader) == raw.read_bytes()


def test_reader_agrees_with_qemu_after_random_writes(raw: Path, tmp_path: Path) -> None:
    """Zeroed, discarded, overwritten and compressed clusters in one image, in an order no converter makes."""
    path = convert(raw, tmp_path / "disk.qcow2", "-c")
    chance = random.Random(9)
    commands: list[str] = []
    for _ in range(60):
        offset, length = 512 * chance.randrange(SIZE // 512 - 400), 512 * chance.randrange(1, 400)
        verb = chance.choice([f"write -P {chance.randrange(256)}", "write -z", "write -z -u", "discard"])
        commands += ["-c", f"{verb} {offset} {length}"]
    subprocess.run(["qemu-io", "-f", "qcow2", *commands, str(path)], check=True, capture_output=True)
    finding = examine(path)
    with Qcow2Reader(Window(path), finding) as ours, QemuReader(Window(path), finding) as theirs:
        assert hashlib.sha256(content(ours)).digest() == hashlib.sha256(content(theirs)).digest()


def test_sparse_terabyte_is_quick(tmp_path: Path) -> None:
    path = tmp_path / "sparse.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1T"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 700G 64k", str(path)], check=True, capture_output=True)
    with Qcow2Reader(Window(path), examine(path)) as reader:
        assert [pending.index for pending in reader.pending_chunks()] == [700 * 1024]


def test_zeroed_clusters_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "zero.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M"], check=True)
    write = ["-c", "write -P 1 0 8M", "-c", "write -z 0 6M"]
    subprocess.run(["qemu-io", "-f", "qcow2", *write, str(path)], check=True, capture_output=True)
    with Qcow2Reader(Window(path), examine(path)) as reader:
        assert [pending.index for pending in reader.pending_chunks()] == [6, 7]


def compressed_cluster(reader: Qcow2Reader) -> int:
    """Where the first compressed cluster of 64 KiB lies in the file."""
    entries = (entry for _, table in reader._tables() for entry in table)
    return next(entry for entry in entries if entry & c.L2_COMPRESSED) & ((1 << 54) - 1)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_damaged_cluster_is_refused(raw: Path, tmp_path: Path, compression: str) -> None:
    path = convert(raw, tmp_path / "disk.qcow2", "-c", "-o", f"compression_type={compression}")
    finding = examine(path)
    with Qcow2Reader(Window(path), finding) as reader:
        offset = compressed_cluster(reader)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 64)
    with Qcow2Reader(Window(path), finding) as reader, pytest.raises(DiskRefused) as caught:
        content(reader)
    assert caught.value.code == "disk.damaged_data"


def test_file_that_changed_since_the_gate_is_refused(raw: Path, tmp_path: Path) -> None:
    path = convert(raw, tmp_path / "disk.qcow2")
    finding = examine(path)
    convert(raw, path, "-o", "extended_l2=on,cluster_size=64k")
    with pytest.raises(DiskRefused) as caught:
        Qcow2Reader(Window(path), finding)
    assert caught.value.code == "disk.header_mismatch"


def test_subclusters_go_to_qemu(raw: Path, tmp_path: Path) -> None:
    path = convert(raw, tmp_path / "disk.qcow2", "-o", "extended_l2=on")
    assert has_subclusters(Window(path))
    with open_disk(Window(path), examine(path), scratch=tmp_path) as reader:
        assert isinstance(reader, QemuReader)
        assert content(reader) == raw.read_bytes()
