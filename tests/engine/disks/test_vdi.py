"""Attacks on VDI, each with the reason it must be refused for."""

from __future__ import annotations

import pytest
from forge_bytes import finding, verdict
from forge_vdi import BMAP, DATA, END, VIRTUAL_SIZE, vdi

from tasks.engine.disks import c_vdi as c
from tasks.engine.disks.formats import DiskFormat, Finding


@pytest.mark.parametrize("image_type", [c.TYPE_DYNAMIC, c.TYPE_STATIC])
def test_vdi_plain_accepted(image_type: int) -> None:
    assert finding(vdi(image_type=image_type)) == Finding(DiskFormat.VDI, VIRTUAL_SIZE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 0x10000}, "unknown_version"),
        ({"image_type": 3}, "differencing"),
        ({"image_type": 4}, "differencing"),
        ({"image_type": 9}, "unknown_feature"),
        ({"uuid_link": b"x" * 16}, "parent"),
        ({"uuid_parent": b"x" * 16}, "parent"),
        ({"block_size": 0}, "cluster_size"),
        ({"block_size": 4096}, "cluster_size"),
        ({"block_extra": 512}, "cluster_size"),
        ({"sector_size": 4096}, "cluster_size"),
        ({"disk_size": 0}, "too_small"),
        ({"disk_size": 1 << 63}, "too_large"),
        ({"disk_size": VIRTUAL_SIZE - 1}, "unaligned"),
        ({"disk_size": VIRTUAL_SIZE * 2}, "table_size"),
        ({"blocks_in_image": 0xFFFFFFFF}, "table_size"),
        ({"blocks_allocated": 5}, "table_size"),
        ({"offset_bmap": 0}, "overlap"),
        ({"offset_bmap": 513}, "unaligned"),
        ({"offset_data": 513}, "unaligned"),
        ({"offset_data": BMAP}, "overlap"),
        ({"offset_bmap": 1 << 31, "offset_data": 3 << 30}, "past_end"),
    ],
)
def test_vdi_header_refused(fields: dict[str, int | bytes], reason: str) -> None:
    assert verdict(vdi(**fields), depth="headers") == reason  # type: ignore[arg-type]  # one table for every field


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((c.DISCARDED, 0, 1), "accepted"),
        ((0, 0), "overlap"),
        ((2,), "past_end"),
        ((0xFFFFFFFD,), "past_end"),
    ],
)
def test_vdi_block(entries: tuple[int, ...], reason: str) -> None:
    assert verdict(vdi(*entries)) == reason


def test_vdi_block_beyond_the_allocated() -> None:
    assert verdict(vdi(1, blocks_allocated=1)) == "bad_entry"


def test_vdi_last_block_may_end_with_the_disk() -> None:
    image = vdi(c.UNALLOCATED, c.UNALLOCATED, 0, 1, disk_size=VIRTUAL_SIZE - 512)
    assert verdict(image[:-512]) == "accepted"
    assert verdict(image[:-513]) == "past_end"


def test_vdi_every_truncation_refused() -> None:
    whole = bytes(vdi())
    cuts = [*range(70, DATA, 13), *range(DATA, END, 99991), END - 1]
    assert "accepted" not in {verdict(whole[:cut]) for cut in cuts}
