"""The moment of a capture: file systems frozen, backup and checkpoint begun, file systems thawed, in well under a second.

Afterwards the guest goes on and its disks can be read as they were (`backup`). What is owed meanwhile is in `watch`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tasks.engine.errors import CaptureRefused
from tasks.engine.guests import backup, checkpoints, freezing, watch
from tasks.engine.guests.backup import BackupPlan
from tasks.engine.guests.freezing import Freeze
from tasks.engine.guests.hypervisor import libvirt_calls
from tasks.engine.guests.overlay import EcsFiles
from tasks.engine.guests.watch import Debt

Wish = Literal["best", "filesystem", "crash"]

WORDS = {
    Freeze.FROZEN: "",
    Freeze.NO_AGENT: "no guest agent answers",
    Freeze.REFUSED: "the guest agent does not freeze file systems",
    Freeze.SILENT: "the guest agent gave no answer to the freeze",
}


@dataclass(frozen=True, kw_only=True)
class PointRequest:
    """`since` gives for each disk the checkpoints to build on, best first; `name` is that of the checkpoint to make."""

    name: str
    since: Mapping[str, Sequence[str]]
    consistency: Wish = "best"


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was reached. `since` is None for a disk that must be read whole; `frozen_seconds` is from asking for the freeze
    to the answer to the thaw; `thawed` is False where the host agent still has to see to that."""

    socket: Path
    since: Mapping[str, str | None]
    consistency: Literal["filesystem", "crash"]
    frozen_seconds: float
    note: str
    thawed: bool


def take(domain: Any, files: EcsFiles, request: PointRequest) -> Point:
    """Begin to offer the guest's disks as they are now. Raises CaptureRefused where less would be reached than was asked for.

    Whatever is raised, the guest is let go and no job is left.
    """
    backup.require_room(files)
    with watch.alone(files):
        backup.end(domain, files)
        checkpoints.drop(domain, {request.name} & checkpoints.names(domain))  # of an attempt that was killed
        since = _usable(domain, request)
        older = watch.owed(files)
        debt = replace(Debt.begin(), frozen_since=older.frozen_since if older else None)  # a thaw that is owed stays so
        watch.note(files, debt)
        try:
            return _frozen(domain, files, request, since, debt)
        except BaseException:
            _let_go(domain, files, checkpoint=request.name)
            raise


def release(domain: Any, files: EcsFiles, *, checkpoint: str | None = None) -> None:
    """End what `take` began; with `checkpoint` also forget that, so that the ones before it tell all changes again.

    The guest may have ended meanwhile.
    """
    with watch.alone(files):
        _let_go(domain, files, checkpoint=checkpoint)


def _let_go(domain: Any, files: EcsFiles, *, checkpoint: str | None) -> None:
    debt = watch.owed(files)
    with libvirt_calls("asking for a guest's state"):
        runs = bool(domain.isActive())
    thawed = debt is None or debt.frozen_since is None or not runs or freezing.thaw(domain) is not None
    backup.end(domain, files)
    if checkpoint is not None:
        checkpoints.drop(domain, {checkpoint} & checkpoints.names(domain))
    if thawed:
        watch.settle(files)
    elif debt is not None:
        watch.note(files, replace(debt, pid=0))  # the host agent goes on trying


def _usable(domain: Any, request: PointRequest) -> dict[str, str | None]:
    """For each disk the best checkpoint whose bitmap is whole."""
    wanted = dict.fromkeys(name for names in request.since.values() for name in names)
    whole = {name: checkpoints.dirty_bytes(domain, name) for name in wanted}
    return {target: next((name for name in names if target in whole[name]), None) for target, names in request.since.items()}


def _frozen(domain: Any, files: EcsFiles, request: PointRequest, since: Mapping[str, str | None], debt: Debt) -> Point:
    began = time.monotonic()
    frozen = Freeze.REFUSED
    if request.consistency != "crash":
        watch.note(files, replace(debt, frozen_since=time.time()))
        frozen = freezing.freeze(domain)
    asked = frozen in (Freeze.FROZEN, Freeze.SILENT)
    owes = asked or debt.frozen_since is not None
    try:
        if request.consistency == "filesystem" and frozen is not Freeze.FROZEN:
            raise CaptureRefused("consistency", WORDS[frozen], remedy="Install qemu-guest-agent in it, or accept less.")
        socket = backup.begin(domain, files, BackupPlan(since=since, checkpoint=request.name))
    finally:
        released = freezing.thaw(domain, patience_seconds=2.0) if owes else 0
        thawed = released is not None
        seconds = time.monotonic() - began if asked else 0.0
        if thawed:
            watch.note(files, replace(debt, frozen_since=None))
    still = frozen is Freeze.FROZEN and bool(released)  # else somebody has thawed the guest before the backup began
    return Point(
        socket=socket,
        since=since,
        consistency="filesystem" if still else "crash",
        frozen_seconds=round(seconds, 3),
        note="" if request.consistency == "crash" else WORDS[frozen],
        thawed=thawed,
    )
