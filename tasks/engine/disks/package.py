"""One external file as the disks in it: a compression wrapper taken off, an OVA opened, every disk through the gate.

Nothing here decodes a disk; `opening.open_disk` does that with what is found here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import ByteSource, FileBytes, PrefixBytes
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.ova import OvaDisk, open_ova, verify_manifest
from tasks.engine.disks.wrapper_decoders import WrapperKind
from tasks.engine.disks.wrappers import MAGIC_LENGTH, OutputLimits, detect_wrapper, unwrap, unwrap_prefix
from tasks.engine.errors import DiskRefused

PREFIX_BYTES = 4 << 20
"""How much of a wrapped file is unwrapped to look at its headers."""


@dataclass(frozen=True, slots=True)
class PackagedDisk:
    """One disk of an external file: the local bytes of its own file, and what the gate found."""

    window: Window
    finding: Finding


@dataclass(frozen=True, slots=True)
class Summary:
    """What headers alone tell of an external file. `virtual_size` sums its disks, 0 where only the whole file tells."""

    format: DiskFormat | None
    virtual_size: int
    disks: int


def look(path: Path, *, declared: DiskFormat | None, max_virtual_size: int) -> Summary:
    """Check headers only, in bounded time for any size. Raises DiskRefused."""
    with FileBytes(Window(path)) as file:
        wrapper = _wrapper(file)
        if wrapper is not None:
            start = PrefixBytes(unwrap_prefix(path, wrapper, PREFIX_BYTES))
            return look_at_start(start, declared=declared, max_virtual_size=max_virtual_size)
        if _is_ova(file, declared):
            findings = [_examine_member(disk, max_virtual_size=max_virtual_size) for disk in open_ova(Window(path))]
            sizes = sum(finding.virtual_size for finding in findings)
            return Summary(DiskFormat.OVA, sizes, len(findings))
        finding = gate.examine(file, declared=declared, max_virtual_size=max_virtual_size, depth="headers")
    return Summary(finding.format, finding.virtual_size, 1)


def look_at_start(start: PrefixBytes, *, declared: DiskFormat | None, max_virtual_size: int) -> Summary:
    """Check what the first bytes of a file tell; the rest is checked once the file is here. Raises DiskRefused."""
    if _is_ova(start, declared):
        return Summary(DiskFormat.OVA, 0, 0)
    seen = gate.glance(start, declared=declared, max_virtual_size=max_virtual_size)
    return Summary(seen.format, seen.virtual_size or 0, 1)


def unwrapped(path: Path, target: Path, *, limits: OutputLimits, on_bytes: Callable[[int], None]) -> Path:
    """`path` itself, or the content of its one compression wrapper in `target`, which appears only when whole."""
    with FileBytes(Window(path)) as file:
        wrapper = _wrapper(file)
    if wrapper is None or target.exists():
        return path if wrapper is None else target
    draft = target.with_suffix(".unwrapping")
    draft.unlink(missing_ok=True)
    unwrap(path, draft, kind=wrapper, limits=limits, progress=on_bytes)
    return draft.rename(target)


def packaged_disks(path: Path, scratch: Path, *, declared: DiskFormat | None, max_virtual_size: int) -> list[PackagedDisk]:
    """Every disk of a local file, each mapping table checked. Raises DiskRefused."""
    window = Window(path)
    with FileBytes(window) as file:
        if not _is_ova(file, declared):
            return [_packaged(window, declared, max_virtual_size)]
    verify_manifest(window)
    return [
        _packaged(_plain_member(disk, scratch / f"member-{number}", max_virtual_size), disk.format, max_virtual_size)
        for number, disk in enumerate(open_ova(window))
    ]


def _packaged(window: Window, declared: DiskFormat | None, max_virtual_size: int) -> PackagedDisk:
    with FileBytes(window) as file:
        _refuse_nested(file, declared)
        return PackagedDisk(window, gate.examine(file, declared=declared, max_virtual_size=max_virtual_size, depth="full"))


def _refuse_nested(member: ByteSource, declared: DiskFormat | None) -> None:
    """An OVA inside an OVA is no disk."""
    if declared is not DiskFormat.RAW and gate.detect(member) is DiskFormat.OVA:
        raise DiskRefused("ova_nested", "the archive holds another archive", remedy="Import the inner one.")


def _plain_member(disk: OvaDisk, target: Path, max_virtual_size: int) -> Window:
    """The member's own bytes, unwrapped first where the descriptor says that it is compressed."""
    if disk.compression is None:
        return disk.window
    if not target.exists():
        draft = target.with_suffix(".unwrapping")
        draft.unlink(missing_ok=True)
        unwrap(disk.window, draft, kind=disk.compression, limits=OutputLimits(2 * max_virtual_size))
        draft.rename(target)
    return Window(target)


def _examine_member(disk: OvaDisk, *, max_virtual_size: int) -> Finding:
    if disk.compression is not None:
        start = PrefixBytes(unwrap_prefix(disk.window, disk.compression, PREFIX_BYTES))
        found = look_at_start(start, declared=disk.format, max_virtual_size=max_virtual_size)
        return Finding(found.format or DiskFormat.RAW, found.virtual_size)
    with FileBytes(disk.window) as file:
        _refuse_nested(file, disk.format)
        return gate.examine(file, declared=disk.format, max_virtual_size=max_virtual_size, depth="headers")


def _is_ova(source: ByteSource, declared: DiskFormat | None) -> bool:
    """Whether to open the file as an OVA; a declared format that the content contradicts is refused."""
    if declared not in (None, DiskFormat.OVA):
        return False
    found = gate.detect(source)
    if declared is DiskFormat.OVA and found is not DiskFormat.OVA:
        raise DiskRefused("format_mismatch", f"it is declared an OVA and is {found}", remedy="Declare what it is.")
    return found is DiskFormat.OVA


def _wrapper(file: FileBytes) -> WrapperKind | None:
    return detect_wrapper(file.pread(0, min(MAGIC_LENGTH, file.size)))
