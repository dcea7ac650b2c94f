"""Reading an operator's OSV dump within bounds: one entry in memory at a time, and a quick look before any parsing.

A dump is a zip as https://osv-vulnerabilities.storage.googleapis.com/<ecosystem>/all.zip, one JSON object a member, or a folder
of such zips or of the JSON files, at any depth. What an entry means is `vulnerabilities`'s to say.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from tasks.engine.errors import RequestRefused
from tasks.engine.inspection.c_osv import Entry

MAX_ENTRY = 32 << 20
"""The largest entries, of a kernel in many releases, have a few MiB."""
MAX_ENTRIES = 1_000_000
MAX_BYTES = 32 << 30
_NAME = re.compile(rb'"name"\s*:\s*"([^"]*)"')
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What zipfile raises for a damaged or encrypted member."""


@dataclass(kw_only=True)
class OsvDump:
    """The entries of `path` that may concern `names` in `ecosystem`. The counts are complete once `entries` ended."""

    path: Path
    ecosystem: str
    names: Set[str]
    read: int = field(default=0, init=False)
    concerned: int = field(default=0, init=False)
    unreadable: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)

    def entries(self) -> Iterator[Entry]:
        """Raises RequestRefused (request.osv_dump) for a dump that is absent, no dump, or beyond the bounds."""
        files = self._files()
        if not self.ecosystem:
            return
        mark = json.dumps(self.ecosystem).encode()
        wanted = {name.encode("utf-8", "replace") for name in self.names}
        for raw in self._texts(files):
            if mark in raw:
                self.concerned += 1
                if any(name in wanted or b"\\" in name for name in _NAME.findall(raw)):
                    yield from self._parsed(raw)

    def _parsed(self, raw: bytes) -> Iterator[Entry]:
        try:
            yield Entry.model_validate_json(raw)
        except ValidationError:
            self.unreadable += 1

    def _texts(self, files: list[Path]) -> Iterator[bytes]:
        for path in files:
            for opener in _members(path) if path.suffix != ".json" else [partial(_open_file, path)]:
                yield from self._text(opener)

    def _text(self, opener: Callable[[], IO[bytes]]) -> Iterator[bytes]:
        """The entry behind the opener, unless it is too long or damaged; what an archive says of its size does not matter."""
        try:
            with opener() as stream:
                raw = stream.read(MAX_ENTRY + 1)
        except _UNREADABLE:
            raw = b""
        self.read += 1
        self._bytes += len(raw)
        if self.read > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise _refused(f"{self.path} holds over {MAX_ENTRIES} entries or {MAX_BYTES >> 30} GiB")
        if 0 < len(raw) <= MAX_ENTRY:
            yield raw
        else:
            self.unreadable += 1

    def _files(self) -> list[Path]:
        try:
            if self.path.is_file():
                return [self.path]
            found = sorted(path for path in self.path.rglob("*") if path.suffix in (".json", ".zip") and path.is_file())
        except OSError as error:
            raise _refused(f"{self.path} cannot be read: {error}") from error
        if not found:
            raise _refused(f"{self.path} is no OSV dump")
        return found


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _members(path: Path) -> Iterator[Callable[[], IO[bytes]]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _refused(f"{path} cannot be read as a zip: {error}") from error
    with archive:
        for member in archive.infolist():
            if member.filename.endswith(".json"):
                yield partial(_open_member, archive, member)


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """zipfile bounds the memory of these two ways of compression only."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{member.filename} is compressed in another way than deflate")
    return archive.open(member)


def _refused(message: str) -> RequestRefused:
    return RequestRefused(
        "osv_dump", message, remedy="Give the all.zip of the image's ecosystem from osv.dev, or a folder of such."
    )
