"""What a scan has gathered so far: findings, packages, notes, and the few files that are judged together. No libguestfs here.

`scan_child` adds what it meets; `secrets`, `passwords` and `package_lists` judge it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tasks.engine.inspection import c_scan
from tasks.engine.inspection.c_secrets import PASSWORD_FILES
from tasks.engine.inspection.content import MAX_NOTES, MAX_PACKAGES, Content, Finding, Package
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.guessing import Guesser
from tasks.engine.inspection.guest_files import Notes
from tasks.engine.inspection.package_lists import is_database, packages_in
from tasks.engine.inspection.passwords import password_findings, surplus
from tasks.engine.inspection.secrets import finding, findings_in, follows, matters_by_name, settled
from tasks.engine.inspection.tar_members import Member


class Findings:
    """Gathers over several file systems, one after another."""

    def __init__(self) -> None:
        self.notes = Notes()
        self._prefix = ""
        self._guesser = Guesser()
        self._found: set[Finding] = set()
        self._packages: list[Package] = []
        self._kept: dict[str, bytes] = {}
        self._links: dict[str, None] = {}
        self._files = 0
        self._missed = 0
        self._cut: list[str] = []

    @contextmanager
    def on(self, device: str) -> Iterator[None]:
        """What is added meanwhile lies on a file system by itself, and its paths say so."""
        self._prefix = f"{device}:"
        try:
            yield
        finally:
            self._prefix = ""

    def limit_of(self, path: str) -> int:
        """How many bytes of the file are wanted."""
        return c_scan.WHOLE_BYTES if _is_kept(path) else c_scan.FILE_BYTES

    def add(self, path: str, member: Member) -> None:
        """One file; that a link leads to something that matters is remembered for `take_links`."""
        self._files += 1
        if member.linked or stat.S_ISLNK(member.mode):
            if (matters_by_name if member.linked else follows)(path):
                self._add_link(path)
            return
        if member.rest and stat.S_ISREG(member.mode):
            self._cut.append(self._prefix + path)
        if _is_kept(path):
            self._keep(path, member.data)
        self._add_found(findings_in(path, member.mode, member.data))

    def take_links(self) -> list[str]:
        """The links that were met since the last time."""
        links, self._links = self._links, {}
        return list(links)

    def note(self, path: str, reason: object) -> None:
        """Something is worth a word."""
        self.notes.add(self._prefix + path, reason)

    def miss(self, path: str, reason: object) -> None:
        """Something that should have been looked at was not."""
        self._missed += 1
        self.note(path, reason)

    def settle(self) -> None:
        """Judge what was kept of one system, or of one file system by itself, and forget it."""
        for path in surplus(self._kept):
            self.miss(path, "only its first lines were looked at")
        self._add_found(password_findings(self._kept, lambda hashed, user: self._guesser.is_well_known(hashed, user=user)))
        if not self._prefix:
            self.add_packages(packages_in(self._kept))
        self._kept = {}

    def add_packages(self, packages: Iterable[Package]) -> None:
        """Packages of the system."""
        self._packages += packages
        if len(self._packages) > MAX_PACKAGES:
            self.miss("/", f"only {MAX_PACKAGES} packages are listed")
            self._packages = self._packages[:MAX_PACKAGES]

    def content(self, facts: OsFacts) -> Content:
        """Everything, ordered and bounded."""
        findings, more = settled([*self._found, *self._about_the_scan()])
        return Content(
            facts=facts,
            findings=findings,
            more=more,
            packages=tuple(self._packages),
            notes=(*self._summaries(), *self.notes.as_list())[:MAX_NOTES],
            files=self._files,
        )

    def _about_the_scan(self) -> Iterator[Finding]:
        if not self._packages:
            yield finding(c_scan.NO_PACKAGES, "", "the system has no list of its packages that could be read")
        if self._missed:
            yield finding(c_scan.INCOMPLETE, "", f"{self._missed} parts of the disk were not looked at as a whole")

    def _summaries(self) -> Iterator[str]:
        if self._cut:
            yield f"only the beginning of {len(self._cut)} big files was searched, one is {self._cut[0]}"
        if self._guesser.skipped:
            yield f"{self._guesser.skipped} password hashes were not tried with all well-known passwords"

    def _keep(self, path: str, data: bytes) -> None:
        if sum(map(len, self._kept.values())) + len(data) <= c_scan.KEPT_BYTES and len(self._kept) < c_scan.MAX_KEPT:
            self._kept[path] = data
        else:
            self.miss(path, "not looked at, there is too much of its kind")

    def _add_link(self, path: str) -> None:
        if len(self._links) < c_scan.MAX_LINKS:
            self._links[path] = None
        else:
            self.miss(path, "not looked at, there are too many links")

    def _add_found(self, findings: Iterable[Finding]) -> None:
        self._found |= {replace(each, path=self._prefix + each.path) for each in findings}


def _is_kept(path: str) -> bool:
    return path in PASSWORD_FILES or is_database(path)
