"""Attacks on VHDX, each with the reason it must be refused for, and the dirty log that asks for a replay."""

from __future__ import annotations

import pytest
from forge_bytes import finding, put, verdict
from forge_vhdx import (
    BAT,
    BLOCK_0,
    BLOCK_1,
    END,
    LOG,
    METADATA,
    PRESENT,
    VIRTUAL_SIZE,
    header,
    region_table,
    regions,
    vhdx,
    with_regions,
)

from tasks.engine.disks import c_vhdx as c
from tasks.engine.disks.checksums import crc32c
from tasks.engine.disks.formats import DiskFormat, Finding


def test_crc32c_of_rfc_3720_vectors() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_vhdx_plain_accepted() -> None:
    assert finding(vhdx()) == Finding(DiskFormat.VHDX, VIRTUAL_SIZE, needs_replay=False)


def test_vhdx_dirty_log_needs_replay() -> None:
    assert finding(vhdx(log_guid=b"l" * 16)) == Finding(DiskFormat.VHDX, VIRTUAL_SIZE, needs_replay=True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 2}, "unknown_version"),
        ({"log_guid": b"l" * 16, "log_version": 1}, "unknown_version"),
        ({"log_offset": BAT}, "overlap"),
        ({"log_offset": 0}, "overlap"),
        ({"log_offset": END}, "past_end"),
        ({"log_offset": LOG + 4096}, "unaligned"),
        ({"log_length": 4096}, "unaligned"),
        ({"log_length": 0xFFF00000}, "past_end"),
    ],
)
def test_vhdx_header_refused(fields: dict[str, int | bytes], reason: str) -> None:
    assert verdict(vhdx(**fields), depth="headers") == reason  # type: ignore[arg-type]  # one table for every field


def test_vhdx_one_damaged_header_accepted_two_refused() -> None:
    image = put(vhdx(), c.HEADER_OFFSETS[0] + 20, "B", 1)
    assert verdict(image) == "accepted"
    assert verdict(put(image, c.HEADER_OFFSETS[1] + 20, "B", 1)) == "checksum"


def test_vhdx_newer_header_counts() -> None:
    image = vhdx()
    image[c.HEADER_OFFSETS[1] : c.HEADER_OFFSETS[1] + c.HEADER_LENGTH] = header(sequence_number=8, log_guid=b"l" * 16)
    assert finding(image).needs_replay


def test_vhdx_headers_of_one_number_disagree() -> None:
    image = vhdx()
    image[c.HEADER_OFFSETS[1] : c.HEADER_OFFSETS[1] + c.HEADER_LENGTH] = header(log_guid=b"l" * 16)
    assert verdict(image) == "header_mismatch"


def test_vhdx_both_region_tables_damaged() -> None:
    image = put(vhdx(), c.REGION_TABLE_OFFSETS[0] + 100, "B", 1)
    assert verdict(put(image, c.REGION_TABLE_OFFSETS[1] + 100, "B", 1)) == "checksum"


def test_vhdx_region_tables_disagree() -> None:
    image, second = vhdx(), c.REGION_TABLE_OFFSETS[1]
    image[second : second + c.REGION_TABLE_LENGTH] = region_table(*regions(bat=LOG))
    assert verdict(image) == "header_mismatch"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (with_regions(), "bad_header"),
        (with_regions(regions()[0]), "bad_header"),
        (with_regions(*regions(), *regions()), "bad_header"),
        (with_regions(*regions(), c.Region(b"?" * 16, END, c.MIB, 1)), "unknown_feature"),
        (with_regions(*regions(), count=5000), "table_size"),
        (with_regions(*regions(bat=END)), "past_end"),
        (with_regions(*regions(bat=METADATA)), "overlap"),
        (with_regions(*regions(bat=0)), "overlap"),
        (with_regions(*regions(bat=BAT + 512)), "unaligned"),
        (with_regions(*regions(bat_length=16)), "table_size"),
        (with_regions(*regions(metadata=METADATA + 512)), "unaligned"),
        (with_regions(*regions(metadata=END)), "truncated"),
        (with_regions(*regions(metadata=BLOCK_0)), "bad_header"),
    ],
)
def test_vhdx_regions_refused(image: bytes, reason: str) -> None:
    assert verdict(image, depth="headers") == reason


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ({c.FILE_PARAMETERS: (c.MIB, 2)}, "differencing"),
        ({c.FILE_PARAMETERS: (0, 0)}, "cluster_size"),
        ({c.FILE_PARAMETERS: (3 * c.MIB, 0)}, "cluster_size"),
        ({c.FILE_PARAMETERS: (512 * c.MIB, 0)}, "cluster_size"),
        ({c.VIRTUAL_DISK_SIZE: (0,)}, "too_small"),
        ({c.VIRTUAL_DISK_SIZE: (1 << 63,)}, "too_large"),
        ({c.VIRTUAL_DISK_SIZE: (1000,)}, "unaligned"),
        ({c.VIRTUAL_DISK_SIZE: (1 << 39,)}, "table_size"),
        ({c.LOGICAL_SECTOR_SIZE: (4096,)}, "cluster_size"),
    ],
)
def test_vhdx_metadata_refused(items: dict[bytes, tuple[int, ...]], reason: str) -> None:
    assert verdict(vhdx(items=items), depth="headers") == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (c.MetadataEntry(c.PARENT_LOCATOR, 1 << 16, 20, 4, 0), "parent"),
        (c.MetadataEntry(b"?" * 16, 1 << 16, 20, 4, 0), "unknown_feature"),
        (c.MetadataEntry(b"?" * 16, 1 << 16, 20, 0, 0), "accepted"),
        (c.MetadataEntry(c.FILE_PARAMETERS, 1 << 16, 8, 4, 0), "bad_header"),
    ],
)
def test_vhdx_metadata_item(entry: c.MetadataEntry, reason: str) -> None:
    assert verdict(vhdx(extra=(entry,)), depth="headers") == reason


def test_vhdx_metadata_item_outside_its_region() -> None:
    assert verdict(put(vhdx(), METADATA + 32 + 16, "<I", 0xFFFFFFF0)) == "bad_header"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((0, 1, 2, 3), "accepted"),
        ((BLOCK_1 | PRESENT, BLOCK_0 | PRESENT), "accepted"),
        ((BLOCK_0 | PRESENT, BLOCK_0 | PRESENT), "overlap"),
        ((LOG | PRESENT,), "overlap"),
        ((BAT | PRESENT,), "overlap"),
        ((METADATA | PRESENT,), "overlap"),
        ((PRESENT,), "overlap"),
        ((END | PRESENT,), "past_end"),
        ((1 << 63 | PRESENT,), "past_end"),
        ((BLOCK_0 | 7,), "differencing"),
        ((BLOCK_0 | 4,), "bad_entry"),
    ],
)
def test_vhdx_block(entries: tuple[int, ...], reason: str) -> None:
    assert verdict(vhdx(*entries)) == reason


def test_vhdx_every_truncation_refused() -> None:
    whole = bytes(vhdx())
    cuts = [*range(8, c.MIB, 30011), *range(c.MIB, END, c.MIB // 2), END - 1]
    assert "accepted" not in {verdict(whole[:cut]) for cut in cuts}
