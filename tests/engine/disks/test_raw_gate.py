"""Raw disks: declared ones stay raw whatever they begin with, undeclared ones must not look like anything else."""

from __future__ import annotations

import struct

import pytest
from forge_bytes import finding, verdict
from forge_qcow2 import qcow2
from forge_vhd import dynamic, fixed
from forge_vmdk import vmdk

from tasks.engine.disks.formats import DiskFormat, Finding

_MIB = 1 << 20


def test_raw_undeclared_accepted() -> None:
    assert finding(bytes(_MIB)) == Finding(DiskFormat.RAW, _MIB)


@pytest.mark.parametrize(
    "beginning", [qcow2(), vmdk(), dynamic(), b"# Disk DescriptorFile\n", b"\x1f\x8b\x08", b"LUKS\xba\xbe"]
)
def test_raw_declared_stays_raw_whatever_its_first_sector_says(beginning: bytes) -> None:
    disk = bytes(beginning).ljust(_MIB, b"\0")
    assert finding(disk, declared=DiskFormat.RAW) == Finding(DiskFormat.RAW, _MIB)


def test_raw_declared_stays_raw_whatever_its_last_sector_says() -> None:
    assert finding(fixed(), declared=DiskFormat.RAW).format is DiskFormat.RAW


@pytest.mark.parametrize("declared", [None, *(fmt for fmt in DiskFormat if fmt is not DiskFormat.OVA)])
def test_raw_empty_refused(declared: DiskFormat | None) -> None:
    assert verdict(b"", declared=declared) == "empty"


@pytest.mark.parametrize("size", [1, 100, 511])
def test_raw_tiny_refused(size: int) -> None:
    assert verdict(b"x" * size) == verdict(b"x" * size, declared=DiskFormat.RAW) == "too_small"


def test_raw_small_accepted_only_if_declared() -> None:
    assert verdict(bytes(512)) == "too_small"
    assert verdict(bytes(512), declared=DiskFormat.RAW) == "accepted"


@pytest.mark.parametrize("declared", [None, DiskFormat.RAW])
def test_raw_part_of_a_sector_refused(declared: DiskFormat | None) -> None:
    assert verdict(bytes(_MIB + 1), declared=declared) == "unknown_format"


def test_raw_over_the_limit_refused() -> None:
    assert verdict(bytes(_MIB), max_virtual_size=_MIB - 1) == "too_large"


def partitioned(sectors: int, *, status: int = 0x80, kind: int = 0x83) -> bytes:
    """A raw disk of 1 MiB whose MBR has one partition of this length from sector 1 on."""
    return struct.pack("<446xB3xB3xII48x2s", status, kind, 1, sectors, b"\x55\xaa").ljust(_MIB, b"\0")


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (partitioned(2047), "accepted"),
        (partitioned(2048), "truncated"),
        (partitioned(0xFFFFFFFF, kind=0xEE), "accepted"),
        (partitioned(2048, status=0x6F), "accepted"),
        (bytes(512) + struct.pack("<8s24xQ", b"EFI PART", 2047).ljust(_MIB - 512, b"\0"), "accepted"),
        (bytes(512) + struct.pack("<8s24xQ", b"EFI PART", 2048).ljust(_MIB - 512, b"\0"), "truncated"),
    ],
)
def test_raw_cut_behind_its_partitions_refused_unless_declared(disk: bytes, reason: str) -> None:
    assert verdict(disk) == reason
    assert verdict(disk, declared=DiskFormat.RAW) == "accepted"
