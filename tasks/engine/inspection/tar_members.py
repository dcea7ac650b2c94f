"""A tar archive read from a pipe, entry by entry, by somebody who trusts nothing in it. Nothing is ever written to a disk.

Python's tarfile does the reading; what it would do without a limit is limited here. `guest_stream` makes the archive.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Self, cast

from tasks.engine.inspection.c_scan import HEADER_BYTES

_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
_EXPECTED = (*_PLAIN, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE)
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_TYPES = {
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file by its path below the streamed folder. `mode` is as lstat(2) has it, `data` its first bytes of `size` in all;
    another name of a file that went by before is `linked` and has no data."""

    path: str
    mode: int
    size: int = 0
    data: bytes = b""
    linked: bool = False

    @property
    def rest(self) -> int:
        """Bytes that were not kept."""
        return self.size - len(self.data)


class _Bounded(tarfile.TarInfo):
    """Headers as GNU tar writes them unless asked for more: no sparse files, no attributes, names of bounded length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """A header block."""
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.type in _NAMES and found.size > HEADER_BYTES):
            raise tarfile.ReadError(f"a size of {found.size} bytes")
        if found.type not in _NAMES and found.type not in _EXPECTED:
            raise tarfile.ReadError(f"an entry of type {found.type!r}")
        return found


class _Whole:
    """An archive that must not end early: tarfile would go on asking for each block of what it skips."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """The next bytes, never none."""
        found = self._stream.read(size)
        if not found:
            raise tarfile.ReadError("the archive has no end")
        return found


def members(stream: IO[bytes], limit_of: Callable[[str], int]) -> Iterator[Member]:
    """The archive's entries, with as much of each regular file as `limit_of` its path says.

    Raises tarfile.TarError for what GNU tar does not write. Names that are not UTF-8 have their bytes escaped by surrogates.
    """
    whole = cast("IO[bytes]", _Whole(stream))  # of which only `read` is used
    with tarfile.open(fileobj=whole, mode="r|", tarinfo=_Bounded, encoding="utf-8", errors="surrogateescape") as archive:
        while (entry := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep every entry until the end
            yield _member(archive, entry, limit_of)


def _member(archive: tarfile.TarFile, entry: tarfile.TarInfo, limit_of: Callable[[str], int]) -> Member:
    path = entry.name.removeprefix("./")
    mode = _TYPES.get(entry.type, stat.S_IFREG) | (entry.mode & 0o7777)
    if not entry.isfile():
        return Member(path=path, mode=mode, linked=entry.islnk())
    content = archive.extractfile(entry)
    return Member(path=path, mode=mode, size=entry.size, data=content.read(limit_of(path)) if content else b"")
