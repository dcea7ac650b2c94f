"""Attacks on QCOW version 1, each with the reason it must be refused for."""

from __future__ import annotations

import pytest
from forge_bytes import finding, put, verdict
from forge_qcow import DATA_0, DATA_1, END, L2, VIRTUAL_SIZE, compressed, qcow

from tasks.engine.disks import c_qcow as c
from tasks.engine.disks.formats import DiskFormat, Finding


def test_qcow_plain_accepted() -> None:
    assert finding(qcow()) == Finding(DiskFormat.QCOW, VIRTUAL_SIZE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"backing_file_offset": 100, "backing_file_size": 11}, "backing_file"),
        ({"backing_file_size": 1}, "backing_file"),
        ({"crypt_method": 1}, "encrypted"),
        ({"cluster_bits": 8}, "cluster_size"),
        ({"cluster_bits": 17}, "cluster_size"),
        ({"l2_bits": 5}, "table_size"),
        ({"l2_bits": 14}, "table_size"),
        ({"size": 0}, "too_small"),
        ({"size": 1 << 62}, "too_large"),
        ({"size": 1000}, "unaligned"),
        ({"size": 1 << 40, "cluster_bits": 9, "l2_bits": 6}, "table_size"),
        ({"size": 1 << 40}, "past_end"),
        ({"l1_table_offset": END}, "past_end"),
    ],
)
def test_qcow_header_refused(fields: dict[str, int], reason: str) -> None:
    assert verdict(qcow(**fields), depth="headers") == reason


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((0, DATA_0), "accepted"),
        ((DATA_0, DATA_0), "overlap"),
        ((DATA_0, DATA_0 + 512), "overlap"),
        ((L2,), "overlap"),
        ((512,), "overlap"),
        ((DATA_0 + 1,), "unaligned"),
        ((END,), "past_end"),
        ((1 << 62,), "past_end"),
        ((compressed(DATA_0 + 10, 100), compressed(DATA_0 + 110, 50)), "accepted"),
        ((compressed(DATA_0 + 10, 100), compressed(DATA_0 + 10, 100)), "overlap"),
        ((compressed(DATA_0 + 10, 100), DATA_0), "overlap"),
        ((compressed(L2, 100),), "overlap"),
        ((compressed(END - 10, 11),), "past_end"),
        ((compressed(DATA_0, 0),), "bad_entry"),
    ],
)
def test_qcow_l2_entry(entries: tuple[int, ...], reason: str) -> None:
    assert verdict(qcow(*entries)) == reason


@pytest.mark.parametrize(("offset", "reason"), [(0, "accepted"), (8, "unaligned"), (END, "past_end"), (DATA_1, "accepted")])
def test_qcow_l2_table(offset: int, reason: str) -> None:
    image = put(qcow(0), c.HEADER_LENGTH, ">Q", offset)
    assert verdict(image) == reason


def test_qcow_every_truncation_refused() -> None:
    whole = bytes(qcow())
    assert "accepted" not in {verdict(whole[:cut]) for cut in [*range(8, END, 97), END - 1]}
