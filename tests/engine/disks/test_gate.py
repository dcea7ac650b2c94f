"""What the gate takes a file for: every accepted format, kinds it refuses by name, contradictions, polyglots, prefixes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from forge_bytes import TIB, put, verdict
from forge_qcow import qcow
from forge_qcow2 import qcow2
from forge_vdi import vdi
from forge_vhd import dynamic, fixed
from forge_vhdx import vhdx
from forge_vmdk import compressed_grain, stream, vmdk

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes, PrefixBytes
from tasks.engine.disks.codes import REMEDIES
from tasks.engine.disks.formats import DiskFormat, Window
from tasks.engine.errors import DiskRefused

_FORGED = {
    DiskFormat.QCOW: qcow(),
    DiskFormat.QCOW2: qcow2(),
    DiskFormat.VMDK: vmdk(),
    DiskFormat.VHD: dynamic(),
    DiskFormat.VHDX: vhdx(),
    DiskFormat.VDI: vdi(),
    DiskFormat.RAW: bytearray(1 << 20),
}


def tar(*names: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return packed.getvalue()


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("disk.raw", bytes(1000))
    return packed.getvalue()


def detected(data: bytes) -> DiskFormat:
    return gate.detect(PrefixBytes(bytes(data), complete=True))


@pytest.mark.parametrize("expected", _FORGED)
def test_gate_detects(expected: DiskFormat) -> None:
    assert detected(_FORGED[expected]) is expected


def test_gate_detects_what_others_examine() -> None:
    assert detected(fixed()) is DiskFormat.VHD
    assert detected(tar("vm.ovf", "vm.vmdk")) is DiskFormat.OVA
    assert detected(b"stream\0\0" + bytes(8192)) is DiskFormat.ZVHD
    assert detected(b"z2strm\0\0" + bytes(8192)) is DiskFormat.ZVHD2


@pytest.mark.parametrize("declared", [None, DiskFormat.OVA])
def test_gate_ova_is_the_callers_mistake(declared: DiskFormat | None) -> None:
    with pytest.raises(ValueError, match="open_ova"):
        verdict(tar("vm.ovf"), declared=declared)


@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        (b"QED\0", "unsupported_format"),
        (b"LUKS\xba\xbe\0\1", "encrypted"),
        (b"WithoutFreeSpace", "unsupported_format"),
        (b"WithouFreSpacExt", "unsupported_format"),
        (b"Bochs Virtual HD Image", "unsupported_format"),
        (b"#!/bin/sh\n#V2.0 Format\n", "unsupported_format"),
        (bytes(32769) + b"CD001", "unsupported_format"),
        (tar("vm.vmdk", "vm.ovf"), "unsupported_format"),
        (gzip.compress(bytes(1000)), "compressed"),
        (bz2.compress(bytes(1000)), "compressed"),
        (lzma.compress(bytes(1000)), "compressed"),
        (b"\x28\xb5\x2f\xfd", "compressed"),
        (zipped(), "compressed"),
    ],
)
def test_gate_refuses_by_name(beginning: bytes, reason: str) -> None:
    assert verdict(beginning.ljust(1 << 17, b"\0")) == reason


def test_gate_refuses_apple_disk_image() -> None:
    assert verdict(bytes(1 << 17) + b"koly".ljust(512, b"\0")) == "unsupported_format"


@pytest.mark.parametrize("found", _FORGED)
def test_gate_declared_format_contradicted(found: DiskFormat) -> None:
    others = {*_FORGED, DiskFormat.ZVHD, DiskFormat.ZVHD2} - {found, DiskFormat.RAW}
    assert {verdict(_FORGED[found], declared=other) for other in others} == {"format_mismatch"}
    assert verdict(_FORGED[found], declared=found) == "accepted"


def polyglots() -> dict[str, bytes]:
    qcow2_and_iso = bytearray(1 << 17)
    qcow2_and_iso[:28672] = qcow2()
    return {
        "qcow2+vhd": bytes(qcow2() + fixed()),
        "qcow2+iso": bytes(put(qcow2_and_iso, 32769, "5s", b"CD001")),
        "qcow2+vdi": bytes(put(qcow2(), 64, "<I", 0xBEDA107F)),
        "qcow2+tar": bytes(put(qcow2(), 257, "5s", b"ustar")),
        "qcow2+dmg": bytes(qcow2() + b"koly".ljust(512, b"\0")),
        "vmdk+vhd": bytes(vmdk() + fixed()),
        "vdi+vmdk": bytes(put(vdi(), 0, "4s", b"KDMV")),
        "gzip+vhd": gzip.compress(bytes(1000)) + bytes(fixed()),
        "luks+vhd": b"LUKS\xba\xbe" + bytes(fixed()),
        "descriptor+vhd": b"# Disk DescriptorFile\n" + bytes(fixed()),
    }


@pytest.mark.parametrize("name", polyglots())
def test_gate_polyglot_refused_unless_declared_raw(name: str) -> None:
    data = polyglots()[name]
    assert {verdict(data, declared=declared) for declared in (None, DiskFormat.QCOW2, DiskFormat.VHD)} == {"polyglot"}
    padded = b"".join((data, bytes(-len(data) % 512)))
    assert verdict(padded, declared=DiskFormat.RAW) == "accepted"


@pytest.mark.parametrize("found", sorted(_FORGED.keys() - {DiskFormat.RAW}))
def test_gate_virtual_size_limit(found: DiskFormat) -> None:
    assert verdict(_FORGED[found], depth="headers", max_virtual_size=1024) == "too_large"


@pytest.mark.parametrize("found", sorted(_FORGED.keys() - {DiskFormat.RAW}))
def test_gate_glance_gives_size_from_the_first_sectors(found: DiskFormat) -> None:
    whole = bytes(_FORGED[found])
    prefix = {DiskFormat.VHDX: 5 << 20, DiskFormat.VMDK: 21 * 512}.get(found, 2048)
    seen = gate.glance(PrefixBytes(whole[:prefix]), declared=None, max_virtual_size=TIB)
    complete = gate.glance(PrefixBytes(whole, complete=True), declared=found, max_virtual_size=TIB)
    assert (seen.format, seen.virtual_size) == (complete.format, complete.virtual_size)
    assert (seen.unchecked, complete.unchecked) == ("all tables", "mapping tables")


def test_gate_glance_at_what_shows_itself_at_its_end() -> None:
    prefix = PrefixBytes(bytes(1 << 17))
    assert gate.glance(prefix, declared=None, max_virtual_size=TIB).virtual_size is None
    assert gate.glance(prefix, declared=DiskFormat.VHD, max_virtual_size=TIB).format is DiskFormat.VHD
    with pytest.raises(Exception, match="format_mismatch"):
        gate.glance(prefix, declared=DiskFormat.QCOW2, max_virtual_size=TIB)


def test_gate_glance_refuses_what_the_prefix_shows() -> None:
    prefix = PrefixBytes(bytes(stream(compressed_grain(0), version=9)[: 30 * 512]))
    with pytest.raises(Exception, match="unknown_version"):
        gate.glance(prefix, declared=None, max_virtual_size=TIB)


def test_gate_reads_only_its_window(tmp_path: Path) -> None:
    path = tmp_path / "package"
    path.write_bytes(b"before" + bytes(qcow2()) + b"behind")
    with FileBytes(Window(path, 6, len(qcow2()))) as source:
        assert gate.examine(source, declared=None, max_virtual_size=TIB, depth="full").virtual_size == 1 << 20


def test_gate_every_code_is_documented() -> None:
    """Those of `codes.py`, and every reason that a module here spells out."""
    root = Path(__file__).parents[3]
    rows = re.findall(r"^\|( `\w+`.*?)\|", (root / "docs/disk-codes.md").read_text(), re.MULTILINE)
    documented = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    modules = "\n".join(path.read_text() for path in (root / "tasks/engine/disks").glob("*.py"))
    spelled = set(re.findall(r'(?:DiskRefused|refusal)\(\s*"(\w+)"', modules))
    assert len(spelled) > 50
    assert set(REMEDIES) | spelled <= documented


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (qcow2(cluster_bits=9, l1_table_offset=1024, refcount_table_offset=512, size=32768), 1 << 39),
        (qcow2(), 1 << 43),
        (vmdk(), 1 << 41),
    ],
)
def test_gate_huge_sparse_file_judged_at_once(tmp_path: Path, image: bytes, size: int) -> None:
    """A file of many empty TiB costs neither time nor memory."""
    path = tmp_path / "image"
    path.write_bytes(image)
    os.truncate(path, size)
    tracemalloc.start()
    started = time.monotonic()
    with FileBytes(Window(path)) as source, pytest.raises(DiskRefused, match="file_size"):
        gate.examine(source, declared=None, max_virtual_size=TIB, depth="full")
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
