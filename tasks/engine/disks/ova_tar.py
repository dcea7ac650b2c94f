"""The members of an OVA's tar, found by a bounded walk that extracts nothing. What they mean is in `ova`.

Only plain files with plain names are accepted. `tarfile` decodes single header blocks here and never sees the file itself,
because its own walk reads extension headers of any claimed size into memory.
"""

from __future__ import annotations

import re
import tarfile
from typing import NamedTuple

from tasks.engine.disks.bytesource import ByteSource
from tasks.engine.errors import DiskRefused

BLOCK = 512
MAX_MEMBERS = 64
MAX_PAX = 64 << 10
MAX_PADDING = 1 << 20
"""Zeros after the end mark; tar programs pad to their record size."""

_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")
_PAX_RECORD = re.compile(rb"(\d{1,5}) ([^=\n]+)=")
_AGAIN = "Copy or download the file again."
_REPACK = "Pack it again with plain files only: the .ovf, the .mf and the disks."


class Member(NamedTuple):
    """A plain file in the tar: where its bytes are."""

    name: str
    offset: int
    size: int


def members(source: ByteSource) -> dict[str, Member]:
    """Every member by name; anything else than a plain file in a whole archive is refused."""
    found: dict[str, Member] = {}
    offset, pax = 0, dict[str, str]()
    while any(block := _header(source, offset)):
        entry = _entry(block, offset)
        if entry.type == tarfile.XHDTYPE:
            pax = _pax(source, entry, offset)
        else:
            member = _member(entry, pax, offset)
            _add(found, member)
            entry.size, pax = member.size, {}
        offset += BLOCK + -(-entry.size // BLOCK) * BLOCK
        if offset > source.size:
            raise DiskRefused("truncated", f"{entry.name!r} claims more bytes than the archive has", remedy=_AGAIN)
    _check_end(source, offset)
    return found


def _header(source: ByteSource, offset: int) -> bytes:
    if offset + BLOCK > source.size:
        raise DiskRefused("truncated", "the archive ends without its end mark", remedy=_AGAIN)
    return source.pread(offset, BLOCK)


def _entry(block: bytes, offset: int) -> tarfile.TarInfo:
    try:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
        raise DiskRefused("ova_member", f"the archive's header at {offset} is damaged: {error}", remedy=_AGAIN) from error
    if entry.size < 0:
        raise DiskRefused("ova_member", f"the member at {offset} has a negative size", remedy=_REPACK)
    return entry


def _member(entry: tarfile.TarInfo, pax: dict[str, str], offset: int) -> Member:
    name, size = pax.get("path", entry.name), pax.get("size", str(entry.size))
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or any(key.startswith("GNU.sparse") for key in pax):
        raise DiskRefused("ova_member", f"{name!r} is not a plain file", remedy=_REPACK)
    if not size.isdecimal() or len(size) > 19:
        raise DiskRefused("ova_member", f"{name!r} has a size that is no number", remedy=_REPACK)
    return Member(plain_name(name), offset + BLOCK, int(size))


def plain_name(name: str) -> str:
    """The name without a leading `./`, when it names a file beside the descriptor and nothing else."""
    name = name.removeprefix("./")
    if not _PLAIN_NAME.fullmatch(name):
        raise DiskRefused("ova_name", f"{name[:80]!r} is not the name of a file in the archive", remedy=_REPACK)
    return name


def _add(found: dict[str, Member], member: Member) -> None:
    if member.name in found:
        raise DiskRefused("ova_duplicate", f"{member.name!r} is in the archive twice", remedy=_REPACK)
    if len(found) == MAX_MEMBERS:
        raise DiskRefused("ova_members", f"the archive has more than {MAX_MEMBERS} members", remedy=_REPACK)
    found[member.name] = member


def _pax(source: ByteSource, entry: tarfile.TarInfo, offset: int) -> dict[str, str]:
    """The records of an extended header: `<length> <key>=<value>\\n`, the length counting all of it."""
    if entry.size > MAX_PAX:
        raise DiskRefused("ova_member", f"the extended header at {offset} is too long", remedy=_REPACK)
    raw, records, start = source.pread(offset + BLOCK, entry.size), dict[str, str](), 0
    while start < len(raw):
        match = _PAX_RECORD.match(raw, start)
        end = start + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(raw) or raw[end - 1 : end] != b"\n":
            raise DiskRefused("ova_member", f"the extended header at {offset} is damaged", remedy=_REPACK)
        records[match[2].decode("utf-8", "replace")] = raw[match.end() : end - 1].decode("utf-8", "replace")
        start = end
    return records


def _check_end(source: ByteSource, offset: int) -> None:
    rest = source.size - offset
    tail = source.pread(offset, min(rest, MAX_PADDING))
    if rest > MAX_PADDING or tail.count(0) != len(tail):
        raise DiskRefused("trailing_data", "something follows the archive's end mark", remedy=_REPACK)
