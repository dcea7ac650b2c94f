"""Attacks on VHD, each with the reason it must be refused for, and the size rule that QEMU follows."""

from __future__ import annotations

import pytest
from forge_bytes import finding, put, verdict
from forge_vhd import BLOCK, BLOCK_0, END, SECTOR, TABLE, VIRTUAL_SIZE, dynamic, dynamic_header, fixed, footer

from tasks.engine.disks import c_vhd as c
from tasks.engine.disks.formats import DiskFormat


@pytest.mark.parametrize("image", [dynamic(), fixed()], ids=["dynamic", "fixed"])
def test_vhd_plain_accepted(image: bytes) -> None:
    found = finding(image)
    assert (found.format, found.virtual_size) == (DiskFormat.VHD, VIRTUAL_SIZE)


@pytest.mark.parametrize(
    ("creator", "chs", "expected"),
    [
        (b"win ", (1, 1, 8), VIRTUAL_SIZE),
        (b"qem2", (1, 1, 8), VIRTUAL_SIZE),
        (b"d2v ", (1, 1, 8), VIRTUAL_SIZE),
        (b"tap\0", (1, 1, 8), VIRTUAL_SIZE),
        (b"CTXS", (1, 1, 8), VIRTUAL_SIZE),
        (b"vpc ", (1, 1, 8), 8 * SECTOR),
        (b"qemu", (1, 1, 8), 8 * SECTOR),
        (b"vbox", (1, 1, 8), 8 * SECTOR),
        (b"qemu", (65535, 16, 255), VIRTUAL_SIZE),
    ],
)
def test_vhd_size_follows_its_creator(creator: bytes, chs: tuple[int, int, int], expected: int) -> None:
    geometry = dict(zip(("cylinders", "heads", "sectors_per_track"), chs, strict=True))
    assert finding(fixed(creator_application=creator, **geometry)).virtual_size == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"disk_type": 4}, "differencing"),
        ({"disk_type": 0}, "unknown_feature"),
        ({"disk_type": 5}, "unknown_feature"),
        ({"disk_type": 2}, "header_mismatch"),
        ({"file_format_version": 0x20000}, "unknown_version"),
        ({"current_size": 0}, "too_small"),
        ({"current_size": 1 << 63}, "too_large"),
        ({"current_size": 5 * BLOCK}, "table_size"),
        ({"data_offset": c.NO_DATA_OFFSET}, "truncated"),
        ({"data_offset": END * SECTOR}, "truncated"),
        ({"data_offset": 1024}, "bad_header"),
    ],
)
def test_vhd_footer_refused(fields: dict[str, int], reason: str) -> None:
    assert verdict(dynamic(**fields), depth="headers") == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"header_version": 2}, "unknown_version"),
        ({"block_size": 0}, "cluster_size"),
        ({"block_size": 511}, "cluster_size"),
        ({"block_size": 3 << 20}, "cluster_size"),
        ({"block_size": 1 << 31}, "cluster_size"),
        ({"max_table_entries": 3}, "table_size"),
        ({"max_table_entries": 0xFFFFFFFF}, "table_size"),
        ({"locator": b"W2ru" + bytes(20)}, "parent"),
        ({"parent_unicode_name": "base.vhd".encode("utf-16-be")}, "parent"),
        ({"parent_unique_id": b"x" * 16}, "parent"),
        ({"cookie": b"cxsparsf"}, "bad_header"),
    ],
)
def test_vhd_dynamic_header_refused(fields: dict[str, int | bytes], reason: str) -> None:
    image = dynamic(header=dynamic_header(**fields))  # type: ignore[arg-type]  # one table for every field's type
    assert verdict(image, depth="headers") == reason


@pytest.mark.parametrize(("offset", "reason"), [(TABLE * SECTOR + 1, "unaligned"), (END * SECTOR, "past_end"), (0, "overlap")])
def test_vhd_table_place(offset: int, reason: str) -> None:
    assert verdict(dynamic(header=dynamic_header(table_offset=offset))) == reason


@pytest.mark.parametrize("offset", [70, SECTOR + 100, END * SECTOR - 1])
def test_vhd_wrong_checksum(offset: int) -> None:
    image = dynamic()
    image[offset] ^= 1
    assert verdict(image, depth="headers") == "checksum"


def test_vhd_footers_disagree() -> None:
    image = dynamic()
    image[-SECTOR:] = footer(current_size=VIRTUAL_SIZE // 2)
    assert verdict(image, depth="headers") == "header_mismatch"


def test_vhd_dynamic_without_its_copy_at_the_start() -> None:
    assert verdict(bytes(SECTOR) + dynamic()[SECTOR:]) == "header_mismatch"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((c.UNUSED_BLOCK, BLOCK_0), "accepted"),
        ((BLOCK_0, BLOCK_0), "overlap"),
        ((BLOCK_0, BLOCK_0 + 8), "overlap"),
        ((TABLE,), "overlap"),
        ((0,), "overlap"),
        ((END - 9,), "overlap"),
        ((END - 8,), "past_end"),
        ((0xFFFFFFFE,), "past_end"),
    ],
)
def test_vhd_block(entries: tuple[int, ...], reason: str) -> None:
    assert verdict(dynamic(entries=entries)) == reason


def test_vhd_fixed_shorter_than_its_size() -> None:
    assert verdict(fixed(size=VIRTUAL_SIZE - SECTOR)) == "past_end"


def test_vhd_fixed_differencing_footer() -> None:
    assert verdict(fixed(disk_type=4)) == "differencing"


def test_vhd_every_truncation_refused() -> None:
    whole = bytes(dynamic())
    assert "accepted" not in {verdict(whole[:cut]) for cut in [*range(8, len(whole), 61), len(whole) - 1]}


def test_vhd_fixed_without_its_footer_is_no_vhd() -> None:
    assert verdict(fixed()[:-1], declared=DiskFormat.VHD) == "format_mismatch"


def test_vhd_table_unused_entries_ignored() -> None:
    assert verdict(put(dynamic(), TABLE * SECTOR + 12, ">I", c.UNUSED_BLOCK)) == "accepted"
