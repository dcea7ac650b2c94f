"""Boot layouts of disks that sfdisk partitioned, and of damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.inspection.sniff import BootLayout, sniff

MakeDisk = Callable[[str], Path]
GPT = "label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\nsize=4MiB, type=uefi\n"
MBR = "label: dos\nsize=4MiB, type=83, bootable\n"


def layout(disk: bytes) -> BootLayout:
    return sniff(lambda offset, length: disk[offset : offset + length], virtual_size=len(disk))


def patched(disk: bytes, offset: int, content: bytes) -> bytes:
    return disk[:offset] + content + disk[offset + len(content) :]


def test_empty_disk_is_a_data_disk(make_disk: MakeDisk):
    found = layout(make_disk("").read_bytes())
    assert (found.boot_signature, found.partition_table, found.boot_mode, found.kind) == (False, "none", "unknown", "data")


def test_disk_shorter_than_a_sector_is_a_data_disk():
    assert layout(b"\xeb" * 100).kind == "data"


def test_partitioned_disk_without_code_is_a_data_disk(make_disk: MakeDisk):
    found = layout(make_disk(MBR).read_bytes())
    assert (found.boot_signature, found.boot_code, found.partition_table, found.kind) == (True, False, "mbr", "data")


def test_mbr_with_code_boots_by_bios(make_disk: MakeDisk):
    found = layout(patched(make_disk(MBR).read_bytes(), 0, b"\xfa\xf4"))
    assert (found.bios_bootable, found.boot_mode, found.kind) == (True, "bios", "system")


def test_gpt_with_an_esp_and_no_code_boots_by_uefi(make_disk: MakeDisk):
    found = layout(make_disk(GPT).read_bytes())
    assert (found.partition_table, found.has_esp, found.boot_mode, found.kind) == ("gpt", True, "uefi", "system")


def test_disk_for_both_firmwares_is_booted_by_bios(make_disk: MakeDisk):
    found = layout(patched(make_disk(GPT).read_bytes(), 0, b"\xfa\xf4"))
    assert (found.has_esp, found.boot_mode) == (True, "bios")


def test_mbr_with_an_esp_boots_by_uefi(make_disk: MakeDisk):
    assert layout(make_disk("label: dos\nsize=4MiB, type=ef\n").read_bytes()).boot_mode == "uefi"


def test_damaged_primary_gpt_is_replaced_by_the_backup(make_disk: MakeDisk):
    found = layout(patched(make_disk(GPT).read_bytes(), 512 + 40, b"\x99"))
    assert (found.damaged_table, found.has_esp) == (True, True)


def test_gpt_with_damaged_entries_everywhere_tells_nothing(make_disk: MakeDisk):
    disk = make_disk(GPT).read_bytes()
    found = layout(patched(patched(disk, 1024, b"\x00" * 16), len(disk) - 33 * 512, b"\x00" * 16))
    assert (found.damaged_table, found.has_esp, found.kind) == (True, False, "data")


def test_gpt_that_claims_a_huge_entry_array_is_not_read(make_disk: MakeDisk):
    disk = patched(make_disk(GPT).read_bytes(), 512 + 80, b"\xff\xff\xff\x7f")
    asked: list[int] = []
    sniff(lambda offset, length: (asked.append(length), disk[offset : offset + length])[1], virtual_size=len(disk))
    assert max(asked) <= 1 << 20


def test_boot_sector_of_a_file_system_is_no_partition_table(make_disk: MakeDisk):
    disk = patched(make_disk("").read_bytes(), 0, b"\xeb\x3c\x90mkfs.fat" + b"\x41" * 499 + b"\x55\xaa")
    assert layout(disk).partition_table == "none"


@given(st.binary(min_size=0, max_size=4096), st.integers(0, 1 << 50))
def test_any_bytes_give_a_layout(disk: bytes, size: int):
    found = sniff(lambda offset, length: disk[offset : offset + length], virtual_size=size)
    assert found.kind in ("system", "data")
