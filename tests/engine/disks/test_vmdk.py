"""Attacks on VMDK: descriptors of every kind, parents, tables and grains, each with the reason it must be refused for."""

from __future__ import annotations

import pytest
from forge_bytes import finding, put, verdict
from forge_vmdk import (
    CAPACITY,
    DIRECTORY,
    END,
    GRAIN_0,
    GRAIN_1,
    SECTOR,
    TABLE,
    compressed_grain,
    descriptor,
    stream,
    vmdk,
    with_grains,
)

from tasks.engine.disks import c_vmdk as c
from tasks.engine.disks.formats import DiskFormat


def test_vmdk_plain_accepted() -> None:
    found = finding(vmdk())
    assert (found.format, found.virtual_size) == (DiskFormat.VMDK, CAPACITY * SECTOR)


def test_vmdk_stream_accepted() -> None:
    assert finding(stream(compressed_grain(0), compressed_grain(8))).virtual_size == CAPACITY * SECTOR


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 0}, "unknown_version"),
        ({"version": 4}, "unknown_version"),
        ({"flags": 9}, "unknown_feature"),
        ({"flags": 0x10001}, "unknown_feature"),
        ({"flags": 0x30001}, "unknown_feature"),
        ({"flags": 0x30001, "compress_algorithm": 1}, "header_mismatch"),
        ({"flags": 0x30001, "compress_algorithm": 2}, "unknown_feature"),
        ({"line_ends": b"\n \n\n"}, "corrupt"),
        ({"capacity": 0}, "vmdk_type"),
        ({"capacity": 1 << 60}, "too_large"),
        ({"capacity": CAPACITY + 8}, "header_mismatch"),
        ({"grain_size": 0}, "cluster_size"),
        ({"grain_size": 9}, "cluster_size"),
        ({"grain_size": 1 << 20}, "cluster_size"),
        ({"num_gtes_per_gt": 0}, "table_size"),
        ({"num_gtes_per_gt": 1 << 31}, "table_size"),
        ({"descriptor_offset": 0}, "vmdk_type"),
        ({"descriptor_offset": 2}, "descriptor"),
        ({"descriptor_size": 0}, "descriptor"),
        ({"descriptor_size": 1 << 40}, "descriptor"),
        ({"descriptor_size": 2048}, "truncated"),
        ({"gd_offset": END}, "past_end"),
        ({"gd_offset": 1 << 54}, "past_end"),
        ({"overhead": END + 1}, "past_end"),
        ({"flags": 3, "rgd_offset": 1 << 40}, "past_end"),
        ({"gd_offset": c.GD_AT_END}, "truncated"),
    ],
)
def test_vmdk_header_refused(fields: dict[str, int], reason: str) -> None:
    assert verdict(vmdk(**fields), depth="headers") == reason


@pytest.mark.parametrize(
    "kind",
    [
        *("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs", "vmfsSparse", "vmfsRaw", "vmfsRawDeviceMap"),
        *("fullDevice", "partitionedDevice", "custom", "seSparse", "", "MONOLITHICSPARSE"),
    ],
)
def test_vmdk_create_type_refused(kind: str) -> None:
    assert verdict(vmdk(descriptor(kind=kind)), depth="headers") == "vmdk_type"


@pytest.mark.parametrize(
    ("extent", "reason"),
    [
        ('RW 64 FLAT "/etc/passwd" 0', "vmdk_type"),
        ('RW 64 VMFS "x-flat.vmdk"', "vmdk_type"),
        ("RW 64 ZERO", "vmdk_type"),
        ('NOACCESS 64 SPARSE "x.vmdk"', "vmdk_type"),
        ('RW 64 SPARSE "x.vmdk"\nRW 64 SPARSE "y.vmdk"', "vmdk_type"),
        ('RW 64 SPARSE "../x.vmdk"', "descriptor"),
        ('RW 64 SPARSE "json:{}/x"', "descriptor"),
        ('RW 32 SPARSE "x.vmdk"', "header_mismatch"),
        ("# nothing", "vmdk_type"),
        ("what is this", "descriptor"),
        ('createType="streamOptimized"', "descriptor"),
    ],
)
def test_vmdk_extent_refused(extent: str, reason: str) -> None:
    text = descriptor().replace('RW 64 SPARSE "disk.vmdk"', extent)
    assert verdict(vmdk(text), depth="headers") == reason


@pytest.mark.parametrize(
    "line",
    ['parentFileNameHint="/etc/passwd"', '# parentFileNameHint="base.vmdk"', 'PARENTFILENAMEHINT = "x"', "parentCID=12345678"],
)
def test_vmdk_parent_refused(line: str) -> None:
    text = descriptor().replace("parentCID=ffffffff", line)
    assert verdict(vmdk(text), depth="headers") == "parent"


def test_vmdk_parent_behind_the_declared_descriptor_refused() -> None:
    """QEMU searches twenty sectors of text, whatever size the header gives."""
    text = descriptor().ljust(3 * SECTOR, "\n") + 'parentFileNameHint="/etc/passwd"\n'
    assert verdict(vmdk(text, descriptor_size=3), depth="headers") == "parent"


def test_vmdk_parent_behind_a_nul_refused() -> None:
    assert verdict(vmdk(descriptor() + '\0parentFileNameHint="/etc/passwd"\n'), depth="headers") == "parent"


@pytest.mark.parametrize(
    ("line", "other"), [("parentCID=ffffffff\n", ""), ("CID=fffffffe", "CID=?"), ("\nCID=fffffffe", "\nCID = fffffffe")]
)
def test_vmdk_content_id_that_qemu_cannot_read_refused(line: str, other: str) -> None:
    assert verdict(vmdk(descriptor().replace(line, other)), depth="headers") == "descriptor"


@pytest.mark.parametrize(
    "text", [b"# Disk DescriptorFile\nversion=1\n", b'version=1\ncreateType="monolithicFlat"\n', b"# x\n\n \t\nversion=3\r\n"]
)
def test_vmdk_descriptor_file_refused_unless_declared_raw(text: bytes) -> None:
    data = text.ljust(1 << 16, b"\0")
    assert verdict(data) == verdict(data, declared=DiskFormat.VMDK) == "vmdk_type"
    assert verdict(data, declared=DiskFormat.RAW) == "accepted"


@pytest.mark.parametrize("magic", [b"COWD", b"COWD\x01\0\0\0"])
def test_vmdk_esx_sparse_refused(magic: bytes) -> None:
    assert verdict(magic.ljust(1 << 16, b"\0")) == "vmdk_type"


@pytest.mark.parametrize(
    ("grains", "reason"),
    [
        ((0, 0), "accepted"),
        ((GRAIN_1, GRAIN_0), "accepted"),
        ((GRAIN_0, GRAIN_0), "overlap"),
        ((GRAIN_0, GRAIN_0 + 3), "overlap"),
        ((GRAIN_0 + 3, GRAIN_0), "overlap"),
        ((GRAIN_0 + 7, GRAIN_0), "overlap"),
        ((1,), "overlap"),
        ((DIRECTORY,), "overlap"),
        ((TABLE - 4,), "overlap"),
        ((TABLE + 3,), "overlap"),
        ((END - 7,), "past_end"),
        ((END,), "past_end"),
        ((0xFFFFFFFF,), "past_end"),
    ],
)
def test_vmdk_grain(grains: tuple[int, ...], reason: str) -> None:
    assert verdict(with_grains(*grains)) == reason


def test_vmdk_zeroed_grain_needs_its_flag() -> None:
    assert verdict(with_grains(1, 1, flags=5)) == "accepted"
    assert verdict(with_grains(1, 1, flags=1)) == "overlap"


@pytest.mark.parametrize(("table", "reason"), [(0, "accepted"), (END, "past_end"), (1, "overlap"), (0xFFFFFFFF, "past_end")])
def test_vmdk_grain_table(table: int, reason: str) -> None:
    assert verdict(put(vmdk(), DIRECTORY * SECTOR, "<I", table)) == reason


@pytest.mark.parametrize(
    ("footer", "reason"),
    [
        ({"capacity": CAPACITY * 2}, "header_mismatch"),
        ({"version": 1}, "header_mismatch"),
        ({"flags": 1}, "header_mismatch"),
        ({"grain_size": 16}, "header_mismatch"),
        ({"descriptor_offset": 30}, "header_mismatch"),
        ({"descriptor_offset": 0, "descriptor_size": 0}, "accepted"),
        ({"gd_offset": c.GD_AT_END}, "header_mismatch"),
        ({"gd_offset": 1 << 40}, "past_end"),
        ({"magic": b"KDMX"}, "bad_header"),
    ],
)
def test_vmdk_footer(footer: dict[str, int], reason: str) -> None:
    assert verdict(stream(compressed_grain(0), footer=footer), depth="headers") == reason


@pytest.mark.parametrize(
    ("grain", "reason"),
    [
        (compressed_grain(8), "bad_entry"),
        (compressed_grain(0, size=0), "bad_entry"),
        (compressed_grain(0, size=1 << 31), "bad_entry"),
        (compressed_grain(0)[:12] + b"\0\0" + bytes(498), "bad_entry"),
        (compressed_grain(0, size=4000), "overlap"),
    ],
)
def test_vmdk_compressed_grain_refused(grain: bytes, reason: str) -> None:
    assert verdict(stream(grain)) == reason


def test_vmdk_every_truncation_refused() -> None:
    for whole in (bytes(vmdk()), bytes(stream(compressed_grain(0), compressed_grain(8)))):
        cuts = [*range(4, 1100, 7), *range(1100, len(whole), SECTOR), len(whole) - 1]
        assert "accepted" not in {verdict(whole[:cut]) for cut in cuts}


def test_vmdk_over_two_gib_by_a_sector_accepted() -> None:
    sectors = (2 << 30) // SECTOR + 1
    image = vmdk(descriptor(sectors=sectors), capacity=sectors, grain_size=2048, gd_offset=DIRECTORY)
    assert finding(image, depth="headers").virtual_size == sectors * SECTOR
