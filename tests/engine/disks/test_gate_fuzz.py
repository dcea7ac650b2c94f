"""Random damage to good images: the gate accepts or refuses by name, and never fails, hangs or reads elsewhere."""

from __future__ import annotations

import time

import pytest
from forge_bytes import TIB
from forge_qcow import qcow
from forge_qcow2 import qcow2, with_snapshot
from forge_vdi import vdi
from forge_vhd import dynamic, fixed
from forge_vhd import mended as mended_vhd
from forge_vhdx import mended as mended_vhdx
from forge_vhdx import vhdx
from forge_vmdk import compressed_grain, stream, vmdk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import BeyondPrefix, PrefixBytes
from tasks.engine.disks.formats import DiskFormat
from tasks.engine.errors import DiskRefused

_SEEDS = {
    "qcow": (qcow(), 4096 + 128),
    "qcow2": (qcow2(), 5 * 4096 + 64),
    "qcow2-snapshot": (with_snapshot(), 7 * 4096 + 64),
    "vmdk": (vmdk(), 23 * 512),
    "vmdk-stream": (stream(compressed_grain(0), compressed_grain(8)), 30 * 512),
    "vhd": (dynamic(), 4 * 512),
    "vhd-fixed": (fixed(), 33 * 512),
    "vdi": (vdi(), 544),
    "vhdx": (vhdx(), 3 << 20),
}
_MENDED = {"vhd": mended_vhd, "vhdx": mended_vhdx}
_SPOTS = {
    "vhdx": [65536 + 40, 65536 + 72, 131072 + 8, 196608 + 8, 196608 + 16, 196608 + 48, 2 << 20, 3 << 20, (3 << 20) + 65536],
    "qcow2": [96, 4096, 8192, 3 * 4096, 4 * 4096],
    "vmdk": [512, 21 * 512, 22 * 512],
}
"""Places worth hitting in files that are mostly zeros; a patch lands up to 64 bytes behind one."""
_NUMBERS = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
_PATCH = st.tuples(st.integers(0, 1 << 22), st.lists(_NUMBERS, min_size=1, max_size=8).map(bytes))


def judge(source: PrefixBytes, declared: DiskFormat | None) -> None:
    """An OVA or an unfinished prefix are answers too; anything else than these and DiskRefused is a defect."""
    try:
        gate.examine(source, declared=declared, max_virtual_size=TIB, depth="full")
    except (DiskRefused, BeyondPrefix):
        return


@pytest.mark.parametrize("name", _SEEDS)
@given(patches=st.lists(_PATCH, min_size=1, max_size=4), cut=st.none() | st.integers(0, 1 << 16), whole=st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None)
def test_gate_fuzz_random_damage(name: str, patches: list[tuple[int, bytes]], cut: int | None, whole: bool) -> None:
    seed, interesting = _SEEDS[name]
    image = bytearray(seed)
    spots = [0, *_SPOTS.get(name, ())]
    for offset, content in patches:
        at = offset % interesting if offset & 1 else spots[offset % len(spots)] + (offset >> 8) % 64
        image[at : at + len(content)] = content
    image = _MENDED.get(name, bytearray)(image)
    started = time.monotonic()
    judge(PrefixBytes(bytes(image[:cut] if cut else image), complete=whole), None)
    assert time.monotonic() - started < 5


@given(content=st.binary(max_size=4096), declared=st.sampled_from([None, *(set(DiskFormat) - {DiskFormat.OVA})]))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_gate_fuzz_random_bytes(content: bytes, declared: DiskFormat | None) -> None:
    judge(PrefixBytes(content, complete=True), declared)
