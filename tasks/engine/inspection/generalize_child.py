"""The child process that generalises a guest's disks with libguestfs; speaks to its parent as `guestfs_child` does.

`generalizing` is that parent, `c_generalize` says what goes, `guest_files` does it at one path. What is to go is found first,
overwritten, synced, and only then removed, so that zeros reach the disk and not its content's last copy. What the guest itself
had deleted before is not looked for, and a file system that copies on write keeps the old blocks whatever is written.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.engine.inspection.c_generalize import LISTING_BYTES, MACHINE_ID, MAX_MOUNTS, MAX_REMOVED, OPERATIONS, Operation
from tasks.engine.inspection.facts import clean
from tasks.engine.inspection.guest_files import Budget, Entry, GuestFiles, Notes
from tasks.engine.inspection.guestfs_child import FAILURES, inspect_disks, serve

_COPY_ON_WRITE = ("btrfs", "zfs", "bcachefs", "f2fs", "nilfs2")
_PATH_TEXT = 512


class NotPossible(RuntimeError):
    """These disks cannot be generalised; told as a failure of the binding is."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A path that an operation takes; `holds` is what lies in a folder that goes, `stays` a file that is only emptied."""

    operation: str
    entry: Entry
    holds: tuple[Entry, ...] = ()
    stays: bool = False

    def files(self) -> list[Entry]:
        """What a report names: all but folders, or the folder where there is nothing else."""
        return [each for each in (self.entry, *self.holds) if not each.is_folder] or [self.entry]


def main() -> None:
    """Generalise the disks of the request within its `seconds`."""
    serve(_generalize)


def _generalize(handle: Any, request: dict[str, Any]) -> dict[str, object]:
    """The appliance is shut down when this returns: the overlays then hold everything."""
    budget, notes = Budget(until=time.monotonic() + request["seconds"]), Notes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (LISTING_BYTES, LISTING_BYTES))  # QEMU runs already, and writes what it must
    facts = inspect_disks(handle)
    if facts.type != "linux":
        raise NotPossible(facts.reason or f"the system is {facts.type}, not Linux")
    root, *others = handle.inspect_get_roots()
    for other in others:
        notes.add(other, "the system there was left as it is")
    _mount(handle, root, notes)
    removed = _work(handle, GuestFiles(handle, budget=budget, notes=notes))
    _finish(handle)
    told = [{"operation": name, "path": clean(each.path, limit=_PATH_TEXT), "size": each.size} for name, each in removed]
    more = max(0, len(told) - MAX_REMOVED)
    return {"facts": facts.as_json(), "removed": told[:MAX_REMOVED], "more": more, "skipped": notes.as_list()}


def _mount(handle: Any, root: str, notes: Notes) -> None:
    """Every file system of the system at its place. That of / must be there, and writable."""
    places = {"/": root} | handle.inspect_get_mountpoints(root)
    for place in sorted(places, key=len)[:MAX_MOUNTS]:
        try:
            kind = handle.vfs_type(places[place])
            handle.mount_options(_options(kind), places[place], place)
        except FAILURES as error:
            if place == "/":
                raise
            notes.add(place, f"not looked at: {error}")
        else:
            if kind in _COPY_ON_WRITE:
                notes.add(place, f"{kind} copies on write, so that overwritten content may remain in its free space")
    _must_be_writable(handle)


def _options(kind: str) -> str:
    """Nothing is to be written but what is asked for: ext4 would go on to initialise inode tables that its maker left out."""
    return "noatime,noinit_itable" if kind == "ext4" else "noatime"


def _must_be_writable(handle: Any) -> None:
    if handle.statvfs("/")["flag"] & os.ST_RDONLY:
        raise NotPossible("the root file system can only be read")


def _work(handle: Any, files: GuestFiles) -> list[tuple[str, Entry]]:
    """Everything that was removed or emptied, with its operation."""
    targets = list(_targets(files))
    for target in targets:
        for entry in (target.entry, *target.holds):
            files.overwrite(entry)
    handle.sync()
    done = [target for target in targets if (files.empty if target.stays else files.remove)(target.entry)]
    files.ensure_empty_file(MACHINE_ID)
    if files.not_overwritten:
        files.notes.add("/", f"{files.not_overwritten} files were removed without being overwritten, there was too much")
    return [(target.operation, entry) for target in done for entry in target.files()]


def _targets(files: GuestFiles) -> Iterator[Target]:
    """What the operations take, each path once."""
    taken: set[str] = set()
    for operation, entry, stays in _matches(files):
        if entry.path in taken:
            continue
        holds = tuple(files.below(entry)) if entry.is_folder else ()
        taken.update(each.path for each in (entry, *holds))
        yield Target(operation=operation.name, entry=entry, holds=holds, stays=stays)


def _matches(files: GuestFiles) -> Iterator[tuple[Operation, Entry, bool]]:
    """Operation, path, and whether a file stays there."""
    for operation in OPERATIONS:
        for pattern in operation.remove:
            yield from ((operation, each, False) for each in files.match(pattern))
        for pattern in operation.remove_files:
            yield from ((operation, each, False) for each in files.match(pattern) if each.is_regular)
        for pattern in operation.empty:
            yield from ((operation, each, True) for each in files.match(pattern) if each.is_regular and each.size)


def _finish(handle: Any) -> None:
    """A file system that turned read-only on the way may have lost what was written to it."""
    handle.sync()
    _must_be_writable(handle)
    handle.umount_all()
    handle.shutdown()


if __name__ == "__main__":
    main()
