"""What a host says of itself, from files as the kernel and the NBD server write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.engine.condition import look
from tasks.engine.settings import Settings

MEMINFO = "MemTotal:       10485760 kB\nMemFree:  1 kB\nMemAvailable:    2097152 kB\nHugePages_Total:       0\n"


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    return path


def test_new_host_offers_nine_tenths_and_has_nothing_at_hand(tmp_path: Path, meminfo: Path) -> None:
    found = look(Settings(home=tmp_path, accelerator="auto"), meminfo=meminfo)
    assert (found.memory_mib, found.available_mib) == (9216, 2048)
    assert (found.accelerator, found.cached, found.cache_bytes) == (None, [], 0)


def test_offer_and_accelerator_can_be_set(tmp_path: Path, meminfo: Path) -> None:
    found = look(Settings(home=tmp_path, accelerator="tcg", host_memory_mib=4096), meminfo=meminfo)
    assert (found.memory_mib, found.accelerator) == (4096, "tcg")


def test_disks_that_were_read_are_at_hand_the_last_one_first(tmp_path: Path, meminfo: Path) -> None:
    (tmp_path / "run").mkdir()
    stats = {"cache_bytes": 7, "read": {"a" * 64: 5, "b" * 64: 0, "c" * 64: 1}}
    (tmp_path / "run" / "nbd-stats.json").write_text(json.dumps(stats))
    (tmp_path / "accelerator.json").write_text('{"kind": "kvm", "reason": "it ran"}')
    found = look(Settings(home=tmp_path, accelerator="auto"), meminfo=meminfo)
    assert (found.cached, found.cache_bytes, found.accelerator) == (["c" * 64, "a" * 64], 7, "kvm")


@pytest.mark.parametrize("broken", ["", "[]", "{"])
def test_file_that_is_half_written_counts_as_none(tmp_path: Path, meminfo: Path, broken: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "nbd-stats.json").write_text(broken)
    assert look(Settings(home=tmp_path, accelerator="tcg"), meminfo=meminfo).cached == []
