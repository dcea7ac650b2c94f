"""An OVA: a tar of a descriptor, a manifest and disks. Disks are windows into it; nothing is ever extracted.

The tar walk is in `ova_tar`, the descriptor in `ova_descriptor`. What each disk's file holds is the gate's business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks.engine.disks.bytesource import ByteSource, FileBytes
from tasks.engine.disks.formats import DiskFormat, Window
from tasks.engine.disks.ova_descriptor import DescribedDisk, described_disks
from tasks.engine.disks.ova_tar import Member, members, plain_name
from tasks.engine.disks.wrapper_decoders import WrapperKind
from tasks.engine.errors import DiskRefused

MAX_DESCRIPTOR = 1 << 20
MAX_MANIFEST = 64 << 10
_COMPRESSIONS: dict[str, WrapperKind | None] = {"identity": None, "": None, "gzip": "gz"}
_MANIFEST_LINE = re.compile(r"(SHA1|SHA256|SHA384|SHA512) ?\((.+)\) ?= ?([0-9a-fA-F]{40,128})")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class OvaDisk:
    """One disk of the package: where its file is, what the descriptor says of it, and what must be unwrapped first."""

    name: str
    window: Window
    capacity: int
    """Guest-visible bytes as the descriptor has them; the disk's own headers decide."""
    compression: WrapperKind | None
    format: DiskFormat | None
    """What the descriptor's format address names; None where it names nothing known."""


def open_ova(window: Window) -> list[OvaDisk]:
    """The package's disks in the order of the system's drives. Digests are not compared: see verify_manifest."""
    with FileBytes(window) as file:
        found = members(file)
        descriptor = _only(found, ".ovf")
        if descriptor is None:
            raise DiskRefused("ova_descriptor", "the archive has no .ovf descriptor", remedy="Export the system again.")
        described = described_disks(_text(file, descriptor, MAX_DESCRIPTOR))
    return [_disk(window, disk, found) for disk in described]


def verify_manifest(window: Window, *, progress: Callable[[int], None] = lambda _: None) -> bool:
    """Compare every digest of the manifest; False when the package has none. `progress` gets bytes read so far."""
    with FileBytes(window) as file:
        found = members(file)
        manifest = _only(found, ".mf")
        if manifest is None:
            return False
        listed = dict(_listed(_text(file, manifest, MAX_MANIFEST)))
        _check_listed(listed, found, [disk.name for disk in open_ova(window)])
        done = 0
        for name, (algorithm, expected) in listed.items():
            digest = hashlib.new(algorithm, usedforsecurity=False)
            for piece in _pieces(file, found[name]):
                digest.update(piece)
                done += len(piece)
                progress(done)
            if digest.hexdigest() != expected:
                raise _mismatch(f"{name!r} is not what the manifest says")
    return True


def _disk(window: Window, disk: DescribedDisk, found: dict[str, Member]) -> OvaDisk:
    member = found.get(plain_name(disk.href))
    if member is None:
        raise DiskRefused("ova_reference", f"{disk.href!r} is not in the archive", remedy="Export the system again.")
    if disk.size not in (None, member.size):
        raise DiskRefused("ova_size", f"{disk.href!r} has {member.size} bytes, the descriptor says {disk.size}")
    if disk.compression not in _COMPRESSIONS:
        raise DiskRefused("ova_compression", f"{disk.href!r} is compressed in an unknown way", remedy="Use gzip or none.")
    place = Window(window.path, window.offset + member.offset, member.size)
    return OvaDisk(member.name, place, disk.capacity, _COMPRESSIONS[disk.compression], disk.format)


def _only(found: dict[str, Member], suffix: str) -> Member | None:
    named = [member for name, member in found.items() if name.lower().endswith(suffix)]
    if len(named) > 1:
        raise DiskRefused("ova_duplicate", f"the archive has {len(named)} files {suffix}", remedy="Keep one of them.")
    return named[0] if named else None


def _text(source: ByteSource, member: Member, limit: int) -> bytes:
    if member.size > limit:
        raise DiskRefused("ova_descriptor", f"{member.name!r} has {member.size} bytes; {limit} are accepted")
    return source.pread(member.offset, member.size)


def _listed(manifest: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, algorithm and digest of each line; a line that cannot be read or names a file again is refused."""
    seen = set()
    for line in manifest.decode("utf-8", "replace").splitlines():
        if not line.strip():
            continue
        match = _MANIFEST_LINE.fullmatch(line.strip())
        if not match or match[2] in seen:
            raise _mismatch(f"its line {line[:60]!r} cannot be used")
        seen.add(match[2])
        yield plain_name(match[2]), (match[1].lower(), match[3].lower())


def _check_listed(listed: dict[str, tuple[str, str]], found: dict[str, Member], disks: list[str]) -> None:
    descriptor = [name for name in found if name.lower().endswith(".ovf")]
    if missing := sorted(listed.keys() - found.keys()):
        raise _mismatch(f"{missing[0]!r} is listed and not in the archive")
    if unlisted := sorted({*descriptor, *disks} - listed.keys()):
        raise _mismatch(f"{unlisted[0]!r} is not listed")


def _pieces(source: ByteSource, member: Member) -> Iterator[bytes]:
    for start in range(0, member.size, _PIECE):
        yield source.pread(member.offset + start, min(_PIECE, member.size - start))


def _mismatch(what: str) -> DiskRefused:
    return DiskRefused("ova_manifest", f"the manifest does not hold: {what}", remedy="Copy or download the file again.")
