"""Attacks on QCOW2, each with the reason it must be refused for, and images that must be accepted."""

from __future__ import annotations

import struct

import pytest
from forge_bytes import TIB, finding, put, verdict
from forge_qcow2 import (
    CLUSTER,
    COMPRESSED,
    COPIED,
    DATA_0,
    DATA_1,
    END,
    L1,
    L2,
    REFCOUNT_BLOCK,
    REFCOUNT_TABLE,
    VIRTUAL_SIZE,
    extension,
    qcow2,
    with_l2,
    with_snapshot,
)

from tasks.engine.disks.formats import DiskFormat


def test_qcow2_plain_accepted() -> None:
    assert finding(qcow2()).format is DiskFormat.QCOW2
    assert finding(qcow2()).virtual_size == VIRTUAL_SIZE


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"incompatible_features": 1},  # dirty: only refcounts may be wrong
        {"compatible_features": 0xFF},
        {"incompatible_features": 8, "compression_type": 1},
        {"refcount_order": 6},
    ],
)
def test_qcow2_variant_accepted(fields: dict[str, int]) -> None:
    assert verdict(qcow2(**fields)) == "accepted"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 1 << 20}, "unknown_version"),
        ({"cluster_bits": 8}, "cluster_size"),
        ({"cluster_bits": 22}, "cluster_size"),
        ({"cluster_bits": 0xFFFFFFFF}, "cluster_size"),
        ({"backing_file_offset": 200, "backing_file_size": 11}, "backing_file"),
        ({"backing_file_offset": 1}, "backing_file"),
        ({"incompatible_features": 4}, "data_file"),
        ({"autoclear_features": 2}, "data_file"),
        ({"incompatible_features": 2}, "corrupt"),
        ({"incompatible_features": 1 << 5}, "unknown_feature"),
        ({"incompatible_features": 1 << 63}, "unknown_feature"),
        ({"incompatible_features": 8, "compression_type": 2}, "unknown_feature"),
        ({"incompatible_features": 8}, "header_mismatch"),
        ({"compression_type": 1}, "header_mismatch"),
        ({"incompatible_features": 16}, "cluster_size"),
        ({"refcount_order": 7}, "unknown_feature"),
        ({"header_length": 96}, "bad_header"),
        ({"header_length": 1 << 31}, "bad_header"),
        ({"crypt_method": 1}, "encrypted"),
        ({"crypt_method": 2}, "encrypted"),
        ({"size": 0}, "too_small"),
        ({"size": 1 << 50}, "too_large"),
        ({"size": (1 << 63) - 512}, "too_large"),
        ({"size": 1000}, "unaligned"),
        ({"size": TIB}, "table_size"),
        ({"l1_size": 0}, "table_size"),
        ({"l1_size": 0xFFFFFFFF}, "table_size"),
        ({"l1_table_offset": 0}, "overlap"),
        ({"l1_table_offset": L1 + 8}, "unaligned"),
        ({"l1_table_offset": END}, "past_end"),
        ({"l1_table_offset": (1 << 64) - CLUSTER}, "past_end"),
        ({"l1_table_offset": REFCOUNT_TABLE}, "overlap"),
        ({"refcount_table_clusters": 0}, "table_size"),
        ({"refcount_table_clusters": 0xFFFFFFFF}, "table_size"),
        ({"refcount_table_offset": END}, "past_end"),
        ({"refcount_table_offset": 8}, "unaligned"),
        ({"nb_snapshots": 65537}, "snapshots"),
        ({"nb_snapshots": 0xFFFFFFFF}, "snapshots"),
        ({"nb_snapshots": 1, "snapshots_offset": END}, "past_end"),
        ({"nb_snapshots": 1, "snapshots_offset": 8}, "unaligned"),
    ],
)
def test_qcow2_header_refused(fields: dict[str, int], reason: str) -> None:
    assert verdict(qcow2(**fields), depth="headers") == reason


def test_qcow2_petabyte_with_small_l1_too_large() -> None:
    assert verdict(qcow2(cluster_bits=21, size=1 << 50, l1_size=2048), depth="headers") == "too_large"


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (extension(0x44415441, b"/etc/passwd"), "data_file"),
        (extension(0x44415441, b"json:{}"), "data_file"),
        (extension(0x0537BE77, bytes(16)), "encrypted"),
        (extension(0x6803F857, bytes(48)), "accepted"),
        (extension(0x23852875, struct.pack(">IIQQ", 1, 0, 24, END)), "past_end"),
        (extension(0x23852875, struct.pack(">IIQQ", 1, 0, 24, L2)), "overlap"),
        (extension(0x23852875, struct.pack(">IIQQ", 65536, 0, 24, DATA_1)), "table_size"),
        (extension(0x23852875, bytes(8)), "bad_header"),
        (struct.pack(">II", 0x12345678, 0xFFFFFFF0), "bad_header"),
    ],
)
def test_qcow2_extension(extensions: bytes, reason: str) -> None:
    assert verdict(qcow2(extensions=extensions)) == reason


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((0, 1), "accepted"),
        ((DATA_0, 0), "accepted"),
        ((COPIED | DATA_0 | 1, 0), "accepted"),
        ((COPIED | DATA_0, COPIED | DATA_0), "overlap"),
        ((COPIED | L1,), "overlap"),
        ((COPIED | L2,), "overlap"),
        ((COPIED | REFCOUNT_BLOCK,), "overlap"),
        ((COPIED | REFCOUNT_TABLE,), "overlap"),
        ((COPIED | END,), "past_end"),
        ((COPIED | 1 << 55,), "past_end"),
        ((COPIED | DATA_0 + 512,), "unaligned"),
        ((COPIED | DATA_0 | 2,), "bad_entry"),
        ((1 << 61 | DATA_0,), "bad_entry"),
        ((COMPRESSED | DATA_0 + 100, COMPRESSED | DATA_0 + 200), "accepted"),
        ((COMPRESSED | DATA_0 + 100, COMPRESSED | DATA_0 + 100), "overlap"),
        ((COMPRESSED | DATA_0 + 100, COPIED | DATA_0), "overlap"),
        ((COMPRESSED | L1,), "overlap"),
        ((COMPRESSED | END,), "past_end"),
        ((COMPRESSED | 15 << 58 | END - 512,), "past_end"),
        ((COMPRESSED | DATA_0, 2), "bad_entry"),
    ],
)
def test_qcow2_l2_entry(entries: tuple[int, ...], reason: str) -> None:
    assert verdict(with_l2(*entries)) == reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (0, "accepted"),
        (COPIED | END, "past_end"),
        (COPIED | L2 + 512, "unaligned"),
        (COPIED | L2 | 4, "bad_entry"),
        (1 << 62 | L2, "bad_entry"),
    ],
)
def test_qcow2_l1_entry_checked_from_headers(entry: int, reason: str) -> None:
    assert verdict(put(qcow2(), L1, ">Q", entry), depth="headers") == reason


def test_qcow2_l2_table_used_twice_overlap() -> None:
    twice = qcow2(l1_size=2, size=4 << 20)
    assert verdict(put(twice, L1, ">QQ", COPIED | L2, COPIED | L2)) == "overlap"


@pytest.mark.parametrize(("entry", "reason"), [(END, "past_end"), (L2, "overlap"), (L2 + 1, "bad_entry"), (0, "accepted")])
def test_qcow2_refcount_block(entry: int, reason: str) -> None:
    assert verdict(put(qcow2(), REFCOUNT_TABLE, ">Q", entry)) == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "accepted"),
        ({"l1_table_offset": L1}, "overlap"),
        ({"l1_table_offset": END + 2 * CLUSTER}, "past_end"),
        ({"l1_size": 0x7FFFFFFF}, "snapshots"),
        ({"extra": 0xFFFFFFFF}, "snapshots"),
    ],
)
def test_qcow2_internal_snapshot(fields: dict[str, int], reason: str) -> None:
    assert verdict(with_snapshot(**fields)) == reason


@pytest.mark.parametrize("version", [2, 3])
def test_qcow2_every_truncation_refused(version: int) -> None:
    whole = bytes(qcow2(version=version))
    cuts = [*range(8, 512, 5), *range(512, END, 512), END - 1]
    assert {verdict(whole[:cut]) for cut in cuts} <= {"truncated", "past_end"}


def test_qcow2_last_cluster_short_accepted_up_to_disk_end() -> None:
    """Writers leave out what lies behind the end of the virtual disk, and only that."""
    short = put(qcow2(size=CLUSTER + 512), L2, ">QQ", COPIED | DATA_0, COPIED | DATA_1)
    assert verdict(short[: DATA_1 + 512]) == "accepted"
    assert verdict(short[: DATA_1 + 511]) == "past_end"


def extended(bitmap: int, *, offset: int) -> bytearray:
    """A QCOW2 with extended L2 and clusters of 16 KiB; the first cluster has this subcluster bitmap."""
    size = 16384
    fields = {"cluster_bits": 14, "incompatible_features": 16, "l1_table_offset": 3 * size, "refcount_table_offset": size}
    data = bytearray(6 * size)
    data[:200] = qcow2(**fields)[:200]
    put(data, size, ">Q", 2 * size)
    put(data, 3 * size, ">Q", COPIED | 4 * size)
    return put(data, 4 * size, ">QQ", COPIED | offset if offset else 0, bitmap)


@pytest.mark.parametrize(
    ("bitmap", "offset", "reason"),
    [
        (0xFFFFFFFF, 5 * 16384, "accepted"),
        (0xFF << 32, 0, "accepted"),
        (1 << 32 | 1, 5 * 16384, "bad_entry"),
        (1, 0, "bad_entry"),
        (1, 6 * 16384, "past_end"),
        (1, 4 * 16384, "overlap"),
        (1, 4 * 16384 + 512, "unaligned"),
    ],
)
def test_qcow2_extended_l2(bitmap: int, offset: int, reason: str) -> None:
    assert verdict(extended(bitmap, offset=offset)) == reason


def test_qcow2_extended_l2_needs_its_last_subcluster() -> None:
    image = extended(0b11, offset=5 * 16384)
    assert verdict(image[: 5 * 16384 + 1024]) == "accepted"
    assert verdict(image[: 5 * 16384 + 1023]) == "past_end"
