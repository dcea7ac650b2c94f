"""The header gate: tells what a disk image file is and refuses what must not be read, before QEMU sees it.

Each format's rules are in the module of its name. OVA archives are recognised here and opened by `ova`; their disks come back
through this gate one by one. Compressed files are unwrapped by `wrappers` first; `glance` judges their beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tasks.engine.disks import c_magic as c
from tasks.engine.disks import qcow, qcow2, raw, vdi, vhd, vhdx, vmdk, zvhd, zvhd2
from tasks.engine.disks.bytesource import BeyondPrefix, ByteSource, Depth, PrefixBytes
from tasks.engine.disks.codes import refusal
from tasks.engine.disks.formats import DiskFormat, Finding
from tasks.engine.disks.vmdk_descriptor import looks_like_descriptor


class _Examine(Protocol):
    def __call__(self, source: ByteSource, *, max_virtual_size: int, depth: Depth) -> Finding: ...


_EXAMINERS: dict[DiskFormat, _Examine] = {
    DiskFormat.RAW: raw.examine_undeclared,
    DiskFormat.QCOW: qcow.examine,
    DiskFormat.QCOW2: qcow2.examine,
    DiskFormat.VMDK: vmdk.examine,
    DiskFormat.VHD: vhd.examine,
    DiskFormat.VHDX: vhdx.examine,
    DiskFormat.VDI: vdi.examine,
    DiskFormat.ZVHD: zvhd.examine,
    DiskFormat.ZVHD2: zvhd2.examine,
}


def detect(source: ByteSource) -> DiskFormat:
    """The one format whose signature the file has, RAW when it has none; other kinds of files are DiskRefused."""
    names = list(dict.fromkeys(_signatures(source)))
    if len(names) > 1:
        raise refusal("polyglot", f"the file is {' and '.join(names)} at once")
    if not names:
        return DiskFormat.RAW
    name = names[0]
    if isinstance(name, DiskFormat):
        return name
    raise _refused_kind(name)


def examine(source: ByteSource, *, declared: DiskFormat | None, max_virtual_size: int, depth: Depth) -> Finding:
    """What the file holds, by our own reading alone; raises DiskRefused. An OVA is for `ova.open_ova`: ValueError."""
    if declared is DiskFormat.OVA:
        raise ValueError("open an OVA with ova.open_ova and examine each of its disks")
    if _is_empty(source):
        raise refusal("empty", "the file is empty")
    if declared is DiskFormat.RAW:
        return raw.examine(source, max_virtual_size=max_virtual_size, depth=depth)
    found = detect(source)
    _require_agreement(source, declared, found)
    if found is DiskFormat.OVA:
        raise ValueError("open an OVA with ova.open_ova and examine each of its disks")
    return _EXAMINERS[found](source, max_virtual_size=max_virtual_size, depth=depth)


@dataclass(frozen=True, slots=True)
class Glance:
    """What the beginning of a wrapped file shows."""

    format: DiskFormat
    virtual_size: int | None
    """Guest-visible bytes; None where that is only known at the end of the file."""
    unchecked: str
    """What will be checked once the file is unwrapped; empty when nothing is left."""


def glance(source: PrefixBytes, *, declared: DiskFormat | None, max_virtual_size: int) -> Glance:
    """Examine as far as the unwrapped prefix reaches; raises DiskRefused for what is wrong in it already."""
    depths: tuple[tuple[Depth, str], ...] = (("headers", "mapping tables"), ("start", "all tables"))
    for depth, unchecked in depths:
        try:
            finding = examine(source, declared=declared, max_virtual_size=max_virtual_size, depth=depth)
        except BeyondPrefix:
            continue
        return Glance(finding.format, finding.virtual_size, unchecked)
    return Glance(declared or detect(source), None, "virtual size and all tables")


def _signatures(source: ByteSource) -> Iterator[str]:
    """Names of all kinds of file that this one could be taken for."""
    head = _head(source)
    yield from (magic.name for magic in c.ACCEPTED if _has(head, magic))
    if head.startswith(c.QCOW_MAGIC) and not _has(head, c.ACCEPTED[0]):
        yield DiskFormat.QCOW2
    if head.startswith(c.VMDK_COWD) or looks_like_descriptor(head):
        yield "a VMDK descriptor"
    yield from (magic.name for magic in (*c.REFUSED, *c.COMPRESSED) if _has(head, magic))
    if _has(head, c.TAR_MAGIC):
        first_name = head[:100].split(b"\0", 1)[0]
        yield DiskFormat.OVA if first_name.lower().endswith(b".ovf") else c.TAR_MAGIC.name
    trailer = _trailer(source)
    if trailer.startswith(c.VHD_COOKIE):
        yield DiskFormat.VHD
    if trailer.startswith(c.KOLY_TRAILER):
        yield "Apple disk image"


def _refused_kind(name: str) -> Exception:
    if name == "a VMDK descriptor":
        return refusal("vmdk_type", "the file is a VMDK descriptor or extent whose data is in other files")
    if name in (magic.name for magic in c.COMPRESSED):
        return refusal("compressed", f"the file is a {name}")
    if name == "LUKS volume":
        return refusal("encrypted", "the file is an encrypted LUKS volume")
    if name == c.ISO_MAGIC.name:
        return refusal("unsupported_format", "the file is an ISO 9660 image; declare a hybrid one raw")
    return refusal("unsupported_format", f"the file is of a kind that is not accepted: {name}")


def _require_agreement(source: ByteSource, declared: DiskFormat | None, found: DiskFormat) -> None:
    if declared in (None, found):
        return
    if declared is DiskFormat.VHD and found is DiskFormat.RAW:
        # A fixed VHD shows itself only at its end, which a prefix does not have: this raises BeyondPrefix then.
        _ = source.size
    raise refusal("format_mismatch", f"the file was declared {declared} but has the signature of {_described(found)}")


def _described(found: DiskFormat) -> str:
    return "no known format" if found is DiskFormat.RAW else str(found)


def _is_empty(source: ByteSource) -> bool:
    try:
        return source.size == 0
    except BeyondPrefix:
        return False


def _has(head: bytes, magic: c.Magic) -> bool:
    return head.startswith(magic.pattern, magic.offset)


def _head(source: ByteSource) -> bytes:
    """The first bytes, as many as are there and any signature needs."""
    try:
        return source.pread(0, min(source.size, c.HEAD_SIZE))
    except BeyondPrefix:
        pass
    for length in (c.HEAD_SIZE, c.HEAD_SIZE >> 4, 512):
        try:
            return source.pread(0, length)
        except BeyondPrefix:
            continue
    return b""


def _trailer(source: ByteSource) -> bytes:
    """The last sector; empty where the end is not known yet."""
    try:
        size = source.size
    except BeyondPrefix:
        return b""
    return source.pread(size - c.TRAILER_SIZE, c.TRAILER_SIZE) if size >= c.TRAILER_SIZE else b""
