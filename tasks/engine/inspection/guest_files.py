"""A mounted guest's files, for `generalize_child`: what matches a pattern, and how it is overwritten and removed.

Everything a listing says was written by the guest. So no symbolic link is ever followed, listings and bytes are bounded, and
what cannot be done at one path is noted and left. The kernel that touches the file systems is the appliance's.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tasks.engine.inspection.c_generalize import (
    ALL_BYTES,
    FILE_BYTES,
    IO_ERROR,
    MAX_DEPTH,
    MAX_ENTRIES,
    MAX_NOTES,
    OPERATIONS,
    PIECE,
)
from tasks.engine.inspection.facts import clean
from tasks.engine.inspection.guestfs_child import FAILURES

_ZEROS = bytes(PIECE)
_STAT_BLOCK = 512
_EVERYTHING_BELOW = ["**", "*"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A path of the guest as lstat(2) describes it, reached through real folders only."""

    path: str
    mode: int
    size: int
    links: int
    blocks: int

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def sparse(self) -> bool:
        """Whether it has holes, which overwriting would fill."""
        return self.blocks * _STAT_BLOCK < self.size


@dataclass
class Budget:
    """What the guest's listings and files may cost; `until` is a time of the monotonic clock."""

    until: float
    entries: int = MAX_ENTRIES
    bytes: int = ALL_BYTES

    def take_entries(self, wanted: int) -> int:
        """How many of `wanted` entries may be looked at."""
        given = min(wanted, self.entries) if time.monotonic() < self.until else 0
        self.entries -= given
        return given

    def take_bytes(self, wanted: int) -> bool:
        """Whether so many bytes may still be moved."""
        if wanted > self.bytes or time.monotonic() >= self.until:
            return False
        self.bytes -= wanted
        return True


@dataclass
class Notes:
    """What could not be done, each said once."""

    said: dict[str, None] = field(default_factory=dict)
    more: int = 0

    def add(self, path: str, reason: object) -> None:
        """One line about a path."""
        text = clean(f"{path}: {reason}", limit=300)
        if len(self.said) < MAX_NOTES:
            self.said[text] = None
        elif text not in self.said:
            self.more += 1

    def as_list(self) -> list[str]:
        """All lines; the last counts those that are not kept."""
        return [*self.said, *([f"{self.more} more"] if self.more else [])]


class GuestFiles:
    """The files below / of the guest that is mounted in `handle`. Only a disk that does not answer is raised."""

    def __init__(self, handle: Any, *, budget: Budget, notes: Notes) -> None:
        self.notes = notes
        self.not_overwritten = 0
        self._handle = handle
        self._budget = budget
        self._mounted = set(handle.mountpoints().values())
        self._listings: dict[str, list[Entry]] = {}

    def match(self, pattern: str) -> Iterator[Entry]:
        """Entries of such a path: `*`, `?` and `[]` stand within one name, a hidden one too; `**` for any folders."""
        yield from self._match("/", pattern.strip("/").split("/"))

    def below(self, folder: Entry) -> list[Entry]:
        """Everything in the folder, at any depth."""
        return list(self._match(folder.path, _EVERYTHING_BELOW))

    def overwrite(self, entry: Entry) -> None:
        """Zeros in place of a regular file's content. Removed before a sync, they would never reach the disk."""
        if not entry.is_regular or not entry.size:
            return
        if entry.links > 1:  # another name may stand for something that is to stay
            self.notes.add(entry.path, "not overwritten, it has other names")
            return
        if entry.size > FILE_BYTES:
            self.notes.add(entry.path, f"only its first {FILE_BYTES // PIECE} MiB were overwritten")
        with self._attempt(entry.path):
            for at in range(0, min(entry.size, FILE_BYTES), PIECE):
                length = min(PIECE, entry.size - at)
                if not self._budget.take_bytes(length):
                    self.not_overwritten += 1
                    return
                self._write_zeros(entry, at, end=at + length)

    def remove(self, entry: Entry) -> bool:
        """Remove the entry itself, a folder with all in it; whether that was done."""
        if any(point == entry.path or point.startswith(f"{entry.path}/") for point in self._mounted):
            self.notes.add(entry.path, "not removed, a file system is mounted there")
            return False
        with self._attempt(entry.path):
            (self._handle.rm_rf if entry.is_folder else self._handle.rm)(entry.path)
            return True
        return False

    def empty(self, entry: Entry) -> bool:
        """Cut a regular file to nothing; one with other names loses this one instead."""
        if entry.links > 1:
            return self.remove(entry)
        with self._attempt(entry.path):
            self._handle.truncate(entry.path)
            return True
        return False

    def ensure_empty_file(self, path: str) -> None:
        """Make an empty regular file where there is none, in place of a link."""
        folder, name = os.path.split(path)
        found = self._look(folder, [name]) if any(each.is_folder for each in self.match(folder)) else None
        if found is None or any(each.is_regular for each in found):
            return
        with self._attempt(path):
            if found:
                self._handle.rm(path)
            self._handle.touch(path)

    def _match(self, folder: str, parts: list[str]) -> Iterator[Entry]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._match(folder, rest)
        for entry in self._children(folder, part):
            if part == "**":
                if entry.is_folder and self._shallow(entry.path):
                    yield from self._match(entry.path, parts)
            elif not rest:
                yield entry
            elif entry.is_folder:
                yield from self._match(entry.path, rest)
            elif entry.is_link:
                self._note_link(entry.path, rest)

    def _shallow(self, path: str) -> bool:
        if path.count("/") <= MAX_DEPTH:
            return True
        self.notes.add(path, "not looked at, it is too deep")
        return False

    def _note_link(self, path: str, rest: list[str]) -> None:
        """Nothing behind a link is touched; not worth a word where it leads nowhere, or to what is looked at by itself."""
        try:
            target = self._handle.realpath(path)
        except FAILURES:
            return
        if os.path.join(target, *rest) not in _PATTERNS:
            self.notes.add(path, "not looked at, it is a symbolic link")

    def _children(self, folder: str, part: str) -> list[Entry]:
        """The folder's entries of that name; only a pattern costs a listing."""
        wild = any(char in part for char in "*?[")
        listing = os.path.join(folder, "*" if wild else part)
        if listing not in self._listings:
            self._listings[listing] = self._look(folder, self._names(folder) if wild else [part])
        return [each for each in self._listings[listing] if not wild or fnmatchcase(os.path.basename(each.path), part)]

    def _names(self, folder: str) -> list[str]:
        """As many names in the folder as may be looked at; as bytes, because one that is not UTF-8 fails the binding on all."""
        raw: list[bytes] = []
        with self._attempt(folder), tempfile.NamedTemporaryFile() as listing:
            self._handle.ls0(folder, listing.name)  # no longer than LISTING_BYTES: the process may write no larger file
            raw = [name for name in Path(listing.name).read_bytes().split(b"\0") if name]
        names = [name.decode(errors="replace") for name in raw if _is_utf8(name)]
        if len(names) < len(raw):
            self.notes.add(folder, f"{len(raw) - len(names)} names not looked at, they are not UTF-8")
        allowed = self._budget.take_entries(len(names))
        if allowed < len(names):
            self.notes.add(folder, f"{len(names) - allowed} of {len(names)} names not looked at, there are too many")
        return names[:allowed]

    def _look(self, folder: str, names: list[str]) -> list[Entry]:
        with self._attempt(folder):
            found = zip(names, self._handle.lstatnslist(folder, names), strict=True) if names else ()
            return [_entry(os.path.join(folder, name), each) for name, each in found if each["st_ino"] != -1]
        return []

    def _write_zeros(self, entry: Entry, at: int, *, end: int) -> None:
        if entry.sparse:  # its holes stay: only what lies between the first and the last byte that is not zero is written
            held = self._handle.pread(entry.path, end - at, at)
            at, end = at + len(held) - len(held.lstrip(b"\0")), at + len(held.rstrip(b"\0"))
        while at < end:
            at += self._handle.pwrite(entry.path, _ZEROS[: end - at], at)

    @contextmanager
    def _attempt(self, path: str) -> Iterator[None]:
        """What fails at one path is noted and does not stop the rest."""
        try:
            yield
        except FAILURES as error:
            if str(error).endswith(IO_ERROR):
                raise
            self.notes.add(path, error)


_PATTERNS = {pattern for each in OPERATIONS for pattern in (*each.remove, *each.remove_files, *each.empty)}


def _entry(path: str, found: dict[str, int]) -> Entry:
    return Entry(path=path, mode=found["st_mode"], size=found["st_size"], links=found["st_nlink"], blocks=found["st_blocks"])


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
