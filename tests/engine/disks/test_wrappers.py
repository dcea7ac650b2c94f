"""Compression wrappers: every kind both whole and hostile, through the real libraries."""

import bz2
import gzip
import lzma
import os
import resource
import struct
import tracemalloc
import zlib
from pathlib import Path
from random import Random

import pytest
import zstandard

from tasks.engine.disks import wrappers
from tasks.engine.disks.formats import Window
from tasks.engine.disks.wrappers import OutputLimits, detect_wrapper, unwrap, unwrap_prefix
from tasks.engine.errors import DiskRefused, HostUnavailable

MIB = 1 << 20
LIMITS = OutputLimits(max_bytes=1 << 40)
COMPRESS = {
    "gz": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data),
    "bz2": bz2.compress,
}
KINDS = list(COMPRESS)
DISK = Random(1).randbytes(300_000) + bytes(3 * MIB) + Random(2).randbytes(100_000)
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def pack(tmp_path: Path):
    def pack(kind: str, *parts: bytes) -> Path:
        path = tmp_path / f"disk.{kind}"
        path.write_bytes(b"".join(parts))
        return path

    return pack


def refusal(path: Path, kind: str, limits: OutputLimits = LIMITS) -> str:
    target = path.with_suffix(".raw")
    with pytest.raises(DiskRefused) as refused:
        unwrap(path, target, kind=kind, limits=limits)
    assert not target.exists()
    return refused.value.code


@each_kind
def test_wrapper_is_detected_and_unwrapped_to_a_sparse_file(pack, tmp_path: Path, kind: str) -> None:
    path, target, seen = pack(kind, COMPRESS[kind](DISK)), tmp_path / "disk.raw", list[int]()
    assert detect_wrapper(path.read_bytes()[:16]) == kind
    assert unwrap(path, target, kind=kind, limits=LIMITS, progress=seen.append) == len(DISK)
    assert target.read_bytes() == DISK
    assert target.stat().st_blocks * 512 < MIB
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(seen) == seen
    assert seen[-1] <= path.stat().st_size


@each_kind
def test_wrapper_of_zeros_becomes_one_hole(pack, tmp_path: Path, kind: str) -> None:
    path = pack(kind, COMPRESS[kind](bytes(9 * MIB + 5)))
    assert unwrap(path, tmp_path / "disk.raw", kind=kind, limits=LIMITS) == 9 * MIB + 5
    assert (tmp_path / "disk.raw").stat().st_blocks == 0
    assert (tmp_path / "disk.raw").stat().st_size == 9 * MIB + 5


@each_kind
def test_wrapper_of_several_members_is_one_file(pack, tmp_path: Path, kind: str) -> None:
    path = pack(kind, COMPRESS[kind](DISK[:MIB]), COMPRESS[kind](b""), COMPRESS[kind](DISK[MIB:]))
    assert unwrap(path, tmp_path / "disk.raw", kind=kind, limits=LIMITS) == len(DISK)
    assert (tmp_path / "disk.raw").read_bytes() == DISK


def test_wrapper_with_skippable_frames_is_unwrapped(pack, tmp_path: Path) -> None:
    skip = struct.pack("<II", 0x184D2A50, 7) + b"ignored"
    path = pack("zst", skip, COMPRESS["zst"](DISK), skip)
    assert detect_wrapper(path.read_bytes()[:16]) == "zst"
    assert unwrap(path, tmp_path / "disk.raw", kind="zst", limits=LIMITS) == len(DISK)


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_wrapper_followed_by_zero_padding_is_unwrapped(pack, tmp_path: Path, kind: str) -> None:
    path = pack(kind, COMPRESS[kind](DISK), bytes(40_000), COMPRESS[kind](b"more"), bytes(8))
    assert unwrap(path, tmp_path / "disk.raw", kind=kind, limits=LIMITS) == len(DISK) + 4


@each_kind
def test_wrapper_inside_a_window_is_unwrapped(pack, tmp_path: Path, kind: str) -> None:
    packed = COMPRESS[kind](DISK)
    path = pack(kind, b"before", packed, b"after")
    assert unwrap(Window(path, 6, len(packed)), tmp_path / "raw", kind=kind, limits=LIMITS) == len(DISK)


@each_kind
def test_prefix_is_the_first_bytes_or_all_there_is(pack, kind: str) -> None:
    path = pack(kind, COMPRESS[kind](DISK))
    assert unwrap_prefix(path, kind, 70_000) == DISK[:70_000]
    assert unwrap_prefix(pack(kind, COMPRESS[kind](b"tiny")), kind, 70_000) == b"tiny"


@pytest.mark.parametrize("prefix", [b"", b"\x1f\x8b", b"BZh9 is text", b"QFI\xfb", bytes(16), b"PK\x03\x04"])
def test_other_bytes_are_no_wrapper(prefix: bytes) -> None:
    assert detect_wrapper(prefix) is None


@each_kind
@pytest.mark.parametrize("inner", KINDS)
def test_wrapper_in_a_wrapper_is_refused(pack, kind: str, inner: str) -> None:
    path = pack(kind, COMPRESS[kind](COMPRESS[inner](DISK[:5000])))
    assert refusal(path, kind) == "disk.nested_compression"
    with pytest.raises(DiskRefused, match="nested_compression"):
        unwrap_prefix(path, kind, 4)


@each_kind
def test_wrapper_that_unpacks_past_the_cap_is_refused(pack, kind: str) -> None:
    path = pack(kind, COMPRESS[kind](DISK))
    assert refusal(path, kind, OutputLimits(max_bytes=len(DISK) - 1)) == "disk.bomb"


@each_kind
@pytest.mark.parametrize("filling", [b"\0", b"A"])
def test_bomb_is_refused_soon_and_in_little_memory(pack, kind: str, filling: bytes) -> None:
    path = pack(kind, COMPRESS[kind](filling * (72 * MIB)))
    tracemalloc.start()
    assert refusal(path, kind, OutputLimits(max_bytes=1 << 40, max_ratio=100)) == "disk.bomb"
    assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_endless_row_of_empty_members_is_refused(pack, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(wrappers, "SILENCE_LIMIT", 200_000)
    empty = COMPRESS[kind](b"")
    assert refusal(pack(kind, empty * (250_000 // len(empty))), kind) == "disk.bomb"


def test_long_skippable_frame_is_refused(pack) -> None:
    skip = struct.pack("<II", 0x184D2A50, 5 * MIB) + bytes(5 * MIB)
    assert refusal(pack("zst", skip, COMPRESS["zst"](DISK)), "zst") == "disk.bomb"


@each_kind
@pytest.mark.parametrize("cut", [1, 5, 1000])
def test_wrapper_that_ends_early_is_refused(pack, kind: str, cut: int) -> None:
    assert refusal(pack(kind, COMPRESS[kind](DISK)[:-cut]), kind) == "disk.wrapper_damaged"


@each_kind
def test_wrapper_with_a_wrong_checksum_is_refused(pack, kind: str) -> None:
    packed = bytearray(COMPRESS[kind](DISK))
    place = {"gz": -8, "zst": -1, "bz2": 12, "xz": -40}[kind]
    packed[place] ^= 1
    assert refusal(pack(kind, packed), kind) == "disk.wrapper_damaged"


@each_kind
def test_wrapper_with_damaged_data_is_refused(pack, kind: str) -> None:
    packed = bytearray(COMPRESS[kind](DISK))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    assert refusal(pack(kind, packed), kind) == "disk.wrapper_damaged"


@each_kind
@pytest.mark.parametrize("tail", [b"x", b"\0x", b"#!/bin/sh\n" * 5000, b"\x1f\x8b\x09"])
def test_wrapper_followed_by_other_bytes_is_refused(pack, kind: str, tail: bytes) -> None:
    assert refusal(pack(kind, COMPRESS[kind](DISK), tail), kind) == "disk.trailing_data"


def test_xz_followed_by_odd_padding_is_refused(pack) -> None:
    assert refusal(pack("xz", COMPRESS["xz"](DISK), bytes(3)), "xz") == "disk.trailing_data"


def test_zstd_window_over_the_limit_is_refused(pack) -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x00, (28 - 10) << 3]) + b"\x01\x00\x00"
    assert refusal(pack("zst", frame), "zst") == "disk.zst_window"


def test_zstd_window_at_the_limit_is_unwrapped(pack, tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27, enable_ldm=False)
    streaming = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = pack("zst", streaming.compress(DISK), streaming.flush())
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size == 1 << 27
    assert unwrap(path, tmp_path / "raw", kind="zst", limits=LIMITS) == len(DISK)


def test_xz_that_needs_too_much_memory_is_refused(pack) -> None:
    packed = bytearray(lzma.compress(b"tiny", check=lzma.CHECK_NONE))
    packed[12 + 4] = 38  # the block header's dictionary size: 2 GiB
    packed[12 + 8 : 12 + 12] = struct.pack("<I", zlib.crc32(packed[12 : 12 + 8]))
    assert refusal(pack("xz", packed), "xz") == "disk.xz_window"


def test_existing_destination_is_left_alone(pack, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        unwrap(pack("gz", COMPRESS["gz"](DISK)), tmp_path / "disk.raw", kind="gz", limits=LIMITS)
    assert (tmp_path / "disk.raw").read_bytes() == b"precious"


def test_full_file_system_is_unavailable_and_leaves_nothing(pack, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = pack("gz", COMPRESS["gz"](DISK))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(HostUnavailable, match="disk_full"):
            unwrap(path, tmp_path / "disk.raw", kind="gz", limits=LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["disk.gz"]
