"""The child process that scans a guest's disks with libguestfs; speaks to its parent as `guestfs_child` does.

`scanning` is that parent. Every file system is mounted read-only and its files come out as streams; nothing of the guest is
ever run. `guest_stream` makes the streams, `scan_findings` has each file judged.
"""

from __future__ import annotations

import math
import os
import resource
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tasks.engine.inspection import c_scan
from tasks.engine.inspection.c_generalize import IO_ERROR
from tasks.engine.inspection.content import Content
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.guest_files import Budget, Entry, GuestFiles
from tasks.engine.inspection.guest_stream import literally, stream
from tasks.engine.inspection.guestfs_child import FAILURES, inspect_disks, serve
from tasks.engine.inspection.package_lists import rpm_packages
from tasks.engine.inspection.scan_findings import Findings
from tasks.engine.inspection.tar_members import Member

_JOURNAL_IS_STALE = {"ext3": "ro,noload", "ext4": "ro,noload", "xfs": "ro,norecovery"}
"""For a journal that cannot be replayed into the overlay; a guest would see it replayed, so that is tried first."""
_NO_FILES = (None, "", "swap", "LVM2_member", "linux_raid_member")
_SYSTEM_FOLDERS = ("/etc", "/usr")


def main() -> None:
    """Scan the disks of the request."""
    serve(lambda handle, _: {"content": _scan(handle).as_json()})


def _scan(handle: Any) -> Content:
    resource.setrlimit(resource.RLIMIT_FSIZE, (c_scan.LISTING_BYTES, c_scan.LISTING_BYTES))  # QEMU runs already
    facts = inspect_disks(handle)
    findings = Findings()
    if not facts.known:
        return Content(facts=facts)
    scan = Scan(handle, findings)
    scan.system(facts)
    scan.others()
    return findings.content(facts)


class Scan:
    """One look at all file systems of a launched handle; `findings` gets everything that is met."""

    def __init__(self, handle: Any, findings: Findings) -> None:
        self._handle = handle
        self._findings = findings
        self._budget = Budget(until=math.inf, entries=c_scan.MAX_FILES, bytes=c_scan.ALL_BYTES)
        self._mounted: set[str] = set()
        self._done: list[str] = []

    def system(self, facts: OsFacts) -> None:
        """The first system with every file system at its place; that of / must be there."""
        root = self._handle.inspect_get_roots()[0]
        places = {"/": root} | self._handle.inspect_get_mountpoints(root)
        self._mount(root, "/")
        for place in sorted(places, key=len)[1 : c_scan.MAX_MOUNTS]:
            with self._attempt(place):
                self._mount(places[place], place)
        self._folders()
        if facts.package_format == "rpm":
            with self._attempt("/"):
                self._findings.add_packages(rpm_packages(self._handle.inspect_list_applications2(root)))
        self._findings.settle()

    def others(self) -> None:
        """Every other file system by itself."""
        waiting = [device for device in self._devices() if not self._is_seen(device)]
        kinds = {device: self._ask(self._handle.vfs_type, device) for device in waiting[: c_scan.MAX_DEVICES]}
        holding = [device for device, kind in kinds.items() if kind not in _NO_FILES]
        for device in holding[: c_scan.MAX_OTHERS]:
            with self._findings.on(device):
                self._other(device)
        for device in (*holding[c_scan.MAX_OTHERS :], *waiting[c_scan.MAX_DEVICES :]):
            self._findings.miss(device, "not looked at, there are too many file systems")
        for device in (device for device, kind in kinds.items() if not kind):
            self._findings.note(device, "not looked at, it holds no file system that is known")

    def _devices(self) -> list[str]:
        """What may hold a file system. list_filesystems takes many times as long, and only knows more of btrfs."""
        if any(each.startswith("btrfsvol:") for each in self._mounted):
            return list(self._handle.list_filesystems())
        partitions = self._handle.list_partitions()
        divided = {each.rstrip("0123456789") for each in partitions}
        whole = [each for each in self._handle.list_devices() if each not in divided]
        return [*whole, *partitions, *self._handle.lvs(), *self._handle.list_md_devices(), *self._handle.list_ldm_volumes()]

    def _is_seen(self, device: str) -> bool:
        """Whether it was mounted, or is a btrfs of which a part was: the parts of such a one are listed for themselves."""
        return device in self._mounted or any(each.startswith(f"btrfsvol:{device}/") for each in self._mounted)

    def _other(self, device: str) -> None:
        """As a system where it looks like one, and otherwise all there is."""
        self._handle.umount_all()
        self._done = []
        with self._attempt("/"):
            self._mount(device, "/")
            if all(self._handle.is_dir(each) for each in _SYSTEM_FOLDERS):
                self._folders()
            else:
                self._stream("/", "/")
        self._findings.settle()

    def _mount(self, device: str, place: str) -> None:
        """Read-only. The overlay takes what replaying a journal writes, so that files are as the guest would see them."""
        try:
            self._handle.mount_options("ro", device, place)
        except FAILURES:
            options = _JOURNAL_IS_STALE.get(self._handle.vfs_type(device))
            if options is None:
                raise
            self._handle.mount_options(options, device, place)
        self._mounted.add(device)

    def _folders(self) -> None:
        """The files in /, and each folder that is worth it by its real place, once."""
        top = self._top()
        for entry in top:
            if entry.is_regular:
                self._read(entry.path, entry.path)
        names = {each.path for each in top if each.is_folder and each.path[1:] not in c_scan.NOT_STREAMED}
        others = sorted(names.difference(c_scan.ROOTS))
        for folder in (*c_scan.ROOTS, *others[: c_scan.MAX_TOP_FOLDERS]):
            real = self._real_folder(folder)
            if real and not any(_is_within(real, each) for each in self._done):
                self._stream(folder, real)
        for folder in others[c_scan.MAX_TOP_FOLDERS :]:
            self._findings.miss(folder, "not looked at, there are too many folders")

    def _top(self) -> list[Entry]:
        budget = Budget(until=math.inf, entries=c_scan.MAX_TOP_ENTRIES)
        return list(GuestFiles(self._handle, budget=budget, notes=self._findings.notes).match("/*"))

    def _real_folder(self, folder: str) -> str:
        """Where the folder really is, or nothing: tar must be given no link, which it would follow within the appliance."""
        real = self._ask(self._handle.realpath, folder)
        if real == "/":
            self._findings.miss(folder, "not looked at, it is a link to /")
            return ""
        return real if real and self._ask(self._handle.is_dir, real) else ""

    def _stream(self, folder: str, real: str) -> None:
        """One folder with all below it but what was done before."""
        excludes = [*self._skipped(real), *(literally(each) for each in _below(real, self._done))]
        self._done.append(real)
        with self._attempt(folder):
            for member in stream(self._handle, real, excludes=excludes, limit_of=self._limits(folder), budget=self._budget):
                self._findings.add(os.path.join(folder, member.path), member)
        for path in self._findings.take_links():
            if target := self._ask(self._handle.realpath, path):
                self._read(target, path)

    def _limits(self, folder: str) -> Callable[[str], int]:
        return lambda path: self._findings.limit_of(os.path.join(folder, path))

    def _skipped(self, real: str) -> Iterator[str]:
        """tar's patterns of what is left out; a word about it where it could have held something."""
        for path in c_scan.SKIPPED_WITH_NOTE:
            if _is_within(path, real) and self._ask(self._handle.is_dir, path):
                self._findings.note(path, "not looked at, it holds other systems")
        yield from (f"./{each}" for each in _below(real, (*c_scan.SKIPPED, *c_scan.SKIPPED_WITH_NOTE)))

    def _read(self, real: str, path: str) -> None:
        """One file by itself, as if it were at the path; no more than fits a message."""
        with self._attempt(path):
            found = self._handle.lstatns(real)
            if stat.S_ISREG(found["st_mode"]) and found["st_size"]:
                data = self._handle.pread(real, min(found["st_size"], c_scan.FILE_BYTES), 0)
                member = Member(path=path, mode=found["st_mode"], size=found["st_size"], data=data)
                self._findings.add(path, member)

    def _ask(self, question: Callable[[str], Any], about: str) -> Any:
        """One answer, or None where there is none: a path that does not exist, a link that leads nowhere."""
        try:
            return question(about)
        except FAILURES as error:
            if IO_ERROR in str(error):
                raise
            return None

    @contextmanager
    def _attempt(self, path: str) -> Iterator[None]:
        """What fails at one path is noted and does not stop the rest."""
        try:
            yield
        except FAILURES as error:
            if IO_ERROR in str(error):
                raise
            self._findings.miss(path, error)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _below(folder: str, paths: Iterable[str]) -> list[str]:
    """Those of the paths that lie in the folder, from there."""
    start = f"{folder.rstrip('/')}/"
    return [path.removeprefix(start) for path in paths if path.startswith(start)]


if __name__ == "__main__":
    main()
