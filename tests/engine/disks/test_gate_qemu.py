"""QEMU's own images pass the gate with the size that QEMU reports, and every place that QEMU maps is inside the file."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from forge_bytes import TIB, finding, verdict
from forge_qcow import qcow
from forge_qcow2 import extension, qcow2
from forge_vdi import vdi
from forge_vhd import dynamic, fixed
from forge_vhdx import vhdx
from forge_vmdk import compressed_grain, stream, vmdk

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import QEMU_DRIVERS, DiskFormat, Finding, Window

_SIZE = (12 << 20) + 1536


def run(*arguments: str | Path) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60).stdout


def info(path: Path, format: DiskFormat) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run("info", "-f", QEMU_DRIVERS[format], "--output=json", path))
    return answer


def examined(path: Path, *, max_virtual_size: int = TIB) -> Finding:
    with FileBytes(Window(path)) as source:
        return gate.examine(source, declared=None, max_virtual_size=max_virtual_size, depth="full")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk with scattered data, some of it at the very end."""
    path, dice = tmp_path_factory.mktemp("content") / "disk.raw", random.Random(7)
    with path.open("wb") as disk:
        disk.truncate(_SIZE)
        for length in (512, 4096, 70144, 300032) * 5:
            disk.seek(dice.randrange(_SIZE - length) // 512 * 512)
            disk.write(dice.randbytes(length // 2) + bytes(length // 2))
        disk.seek(_SIZE - 512)
        disk.write(b"end!" * 128)
    return path


@pytest.mark.parametrize(
    "options",
    [
        "qcow2",
        "qcow2 -c",
        "qcow2 -c -o compression_type=zstd",
        "qcow2 -o extended_l2=on",
        "qcow2 -o cluster_size=512",
        "qcow2 -c -o cluster_size=512",
        "qcow2 -o cluster_size=2M",
        "qcow2 -o compat=0.10",
        "qcow2 -o preallocation=metadata",
        "qcow2 -o preallocation=falloc",
        "qcow2 -o lazy_refcounts=on,refcount_bits=1",
        "qcow2 -W",
        "qcow",
        "vmdk",
        "vmdk -o zeroed_grain=on",
        "vmdk -o subformat=streamOptimized",
        "vpc",
        "vpc -o subformat=fixed",
        "vpc -o force_size=on",
        "vhdx",
        "vhdx -o subformat=fixed",
        "vhdx -o block_size=1M",
        "vdi",
        "vdi -o static=on",
    ],
)
def test_gate_accepts_what_qemu_writes(content: Path, tmp_path: Path, options: str) -> None:
    path = tmp_path / "image"
    run("convert", "-f", "raw", "-O", *options.split(), content, path)
    found = examined(path)
    assert found.virtual_size == info(path, found.format)["virtual-size"] >= _SIZE
    mapped = json.loads(run("map", "-f", QEMU_DRIVERS[found.format], "--output=json", path))
    ends = [extent["offset"] + extent["length"] for extent in mapped if extent["data"] and "offset" in extent]
    assert max(ends, default=0) <= -(-path.stat().st_size // 512) * 512


@pytest.mark.parametrize("driver", ["qcow2", "qcow", "vmdk", "vpc", "vhdx", "vdi"])
@pytest.mark.parametrize("size", [(2 << 30) + 512, 127 << 30])
def test_gate_accepts_empty_images_of_qemu(tmp_path: Path, driver: str, size: int) -> None:
    path = tmp_path / "image"
    run("create", "-q", "-f", driver, path, str(size))
    found = examined(path)
    assert found.virtual_size == info(path, found.format)["virtual-size"] >= size


def test_gate_accepts_snapshots_bitmaps_and_later_writes(content: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run("convert", "-f", "raw", "-O", "qcow2", content, path)
    run("snapshot", "-c", "one", path)
    run("bitmap", "--add", path, "changes")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", path], check=True, capture_output=True, timeout=60)
    assert examined(path).virtual_size == _SIZE


@pytest.mark.parametrize("size", ["1P", "8191T"])
def test_gate_refuses_huge_qcow2_that_qemu_makes(tmp_path: Path, size: str) -> None:
    path = tmp_path / "image"
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, size)
    with pytest.raises(Exception, match=r"disk\.too_large"):
        examined(path)


@pytest.mark.parametrize(
    ("format", "image"),
    [
        (DiskFormat.QCOW, qcow()),
        (DiskFormat.QCOW2, qcow2()),
        (DiskFormat.QCOW2, qcow2(version=2)),
        (DiskFormat.QCOW2, qcow2(incompatible_features=1)),
        (DiskFormat.QCOW2, qcow2(extensions=extension(0x6803F857, bytes(48)))),
        (DiskFormat.VMDK, vmdk()),
        (DiskFormat.VMDK, stream(compressed_grain(0), compressed_grain(8))),
        (DiskFormat.VHD, dynamic()),
        (DiskFormat.VHD, fixed(creator_application=b"vpc ", cylinders=1, heads=1, sectors_per_track=16)),
        (DiskFormat.VHDX, vhdx()),
        (DiskFormat.VDI, vdi()),
    ],
)
def test_gate_forged_images_are_real_to_qemu(tmp_path: Path, format: DiskFormat, image: bytes) -> None:
    """The attacks differ from these images in one thing each, so these must be good ones."""
    path = tmp_path / "image"
    path.write_bytes(image)
    assert info(path, format)["virtual-size"] == finding(image).virtual_size
    run("convert", "-f", QEMU_DRIVERS[format], "-O", "raw", path, tmp_path / "raw")


_BACKING = [
    "/etc/passwd",
    "../base",
    "/dev/zero",
    "nbd://127.0.0.1:1/x",
    "http://127.0.0.1:1/x",
    "image",
    'json:{"driver":"null-co"}',
]


@pytest.mark.parametrize("backing", _BACKING)
@pytest.mark.parametrize("driver", ["qcow2", "qcow"])
def test_gate_refuses_backing_file_that_qemu_makes(tmp_path: Path, driver: str, backing: str) -> None:
    path = tmp_path / "image"
    run("create", "-q", "-u", "-f", driver, "-b", backing, "-F", "raw", path, "1M")
    assert verdict(path.read_bytes(), depth="headers") == "backing_file"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("qcow2 -o data_file=DIR/data", "data_file"),
        ("qcow2 -o data_file=DIR/data,data_file_raw=on", "data_file"),
        ("qcow2 --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s", "encrypted"),
        ("qcow --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s", "encrypted"),
        ("qed", "unsupported_format"),
        ("parallels", "unsupported_format"),
        ("vmdk -o subformat=monolithicFlat", "vmdk_type"),
        ("vmdk -o subformat=twoGbMaxExtentSparse", "vmdk_type"),
        ("vmdk -o subformat=twoGbMaxExtentFlat", "vmdk_type"),
    ],
)
def test_gate_refuses_what_qemu_would_open(tmp_path: Path, options: str, reason: str) -> None:
    path = tmp_path / "image"
    run("create", "-q", "-f", *options.replace("DIR", str(tmp_path)).split(), path, "1M")
    assert verdict(path.read_bytes(), depth="headers") == reason


def test_gate_refuses_vmdk_with_a_parent_that_qemu_makes(tmp_path: Path) -> None:
    run("create", "-q", "-f", "vmdk", tmp_path / "base", "1M")
    run("create", "-q", "-f", "vmdk", "-b", tmp_path / "base", "-F", "vmdk", tmp_path / "image")
    assert verdict((tmp_path / "image").read_bytes(), depth="headers") == "parent"


_STREAM = "vmdk -o subformat=streamOptimized"


@pytest.mark.parametrize("options", ["qcow2", "qcow2 -c", "qcow", "vmdk", _STREAM, "vpc", "vhdx", "vdi"])
def test_gate_refuses_any_cut_of_what_qemu_writes(content: Path, tmp_path: Path, options: str) -> None:
    """QEMU itself reads zeros for what is missing from most of these. Its streams end in padding, which nobody misses."""
    (tmp_path / "disk").write_bytes(content.read_bytes()[-(8 << 20) :])
    run("convert", "-f", "raw", "-O", *options.split(), tmp_path / "disk", tmp_path / "image")
    whole = (tmp_path / "image").read_bytes()
    padding = 65535 if options == _STREAM else 0
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) * 9 // 10, len(whole) - padding - 1):
        assert verdict(whole[:cut]) in {"past_end", "truncated"}
