"""What a capture owes a running guest, kept beside its disk: a thaw, and the end of its backup job.

The capture itself pays. Where it hangs or was killed, the host agent does within seconds (`relieve_all`), because a guest
that stays frozen is down, and one with a forgotten backup job fills the host's disk.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from tasks.engine.errors import HostUnavailable
from tasks.engine.guests import backup, freezing
from tasks.engine.guests.hypervisor import Hypervisor, libvirt_calls
from tasks.engine.guests.overlay import EcsFiles, folders_by_id
from tasks.engine.owner import Process, this_process

FROZEN_SECONDS = 10.0
"""A guest frozen for longer is let go whatever its capture thinks."""

log = logging.getLogger("ims.guests")


@dataclass(frozen=True, kw_only=True)
class Debt:
    """`frozen_since` is the time (seconds since the epoch) of a freeze that no thaw has answered yet."""

    pid: int
    started: str
    frozen_since: float | None = None

    @classmethod
    def begin(cls) -> Self:
        """This process is about to capture."""
        me = this_process()
        return cls(pid=me.pid, started=me.started)

    @property
    def orphaned(self) -> bool:
        """Whether the process that should pay is gone."""
        return not Process(self.pid, self.started).runs

    @property
    def thaw_is_due(self) -> bool:
        """Whether somebody else should thaw the guest now."""
        return self.frozen_since is not None and (self.orphaned or time.time() - self.frozen_since > FROZEN_SECONDS)

    @property
    def due(self) -> bool:
        """Whether somebody else should pay anything now."""
        return self.orphaned or self.thaw_is_due


@contextmanager
def alone(files: EcsFiles) -> Iterator[None]:
    """Nobody else begins, ends or relieves a capture of this ECS until the block ends; waits for whoever does."""
    if not files.folder.is_dir():  # then there is nothing to be alone with
        yield
        return
    folder = os.open(files.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def note(files: EcsFiles, debt: Debt) -> None:
    """Keep the debt where it outlives this process."""
    draft = files.debt.with_suffix(".part")
    draft.write_text(json.dumps(asdict(debt)))
    draft.replace(files.debt)


def settle(files: EcsFiles) -> None:
    """Nothing is owed any more."""
    files.debt.unlink(missing_ok=True)


def owed(files: EcsFiles) -> Debt | None:
    """The debt of an ECS's capture; one that cannot be read belongs to nobody and is treated as frozen."""
    try:
        values: dict[str, Any] = json.loads(files.debt.read_text())
        since = values["frozen_since"]
        return Debt(
            pid=int(values["pid"]), started=str(values["started"]), frozen_since=None if since is None else float(since)
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return Debt(pid=0, started="", frozen_since=0.0)


def relieve(hypervisor: Hypervisor, files: EcsFiles, ecs_id: UUID) -> bool:
    """Pay what is due of one ECS; True when nothing is owed any more."""
    with alone(files):
        debt = owed(files)
        if debt is None:
            return True
        domain = hypervisor.find(ecs_id)
        with libvirt_calls("asking for a guest's state"):
            running = domain is not None and bool(domain.isActive())
        if debt.thaw_is_due:
            if running and freezing.thaw(domain) is None:
                return False
            log.warning("ECS %s: thawed for a capture that did not", ecs_id)
        if debt.orphaned:
            _end(domain, files)
            log.warning("ECS %s: ended what a capture left behind", ecs_id)
            return True
        if debt.thaw_is_due:
            note(files, replace(debt, frozen_since=None))
        return False


def _end(domain: Any | None, files: EcsFiles) -> None:
    if domain is None:
        backup.sweep(files)
    else:
        backup.end(domain, files)
    settle(files)


def relieve_all(hypervisor: Hypervisor, ecs_folder: Path) -> Iterator[UUID]:
    """Look after every ECS of the host; gives those whose capture still owes something that is due.

    A host's failure with one of them is raised when all others have been looked after.
    """
    failure: HostUnavailable | None = None
    for ecs_id, files in due_debts(ecs_folder):
        try:
            if not relieve(hypervisor, files, ecs_id):
                yield ecs_id
        except HostUnavailable as error:
            failure = failure or error
    if failure is not None:
        raise failure


def due_debts(ecs_folder: Path) -> Iterator[tuple[UUID, EcsFiles]]:
    """ECSs of the host whose capture owes something that somebody else should pay now."""
    for ecs_id, folder in folders_by_id(ecs_folder).items():
        debt = owed(EcsFiles(folder))
        if debt is not None and debt.due:
            yield ecs_id, EcsFiles(folder)
