"""What a reconciliation finds and how it is told: the findings, what an ECS's row and its guest say together, the report.

Nothing is looked up or changed here: looking is `tasks.reconciling`, changing `tasks.repairs`. No Prefect.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel

from models.tables import Ecs
from models.vocabulary import EcsState
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.overlay import EcsFiles
from tasks.markdown import table

FILES_CODE = "ecs.files"
ABANDONED_CODE = "operation.abandoned"
Action = Literal["repaired", "reported", "would repair"]


class Finding(BaseModel):
    """One thing that was not as it should be; `owner` is empty where no account is known, `remedy` where it is repaired."""

    kind: str
    subject: str
    owner: str = ""
    found: str
    action: Action = "reported"
    remedy: str = ""


class ReconcileView(BaseModel):
    """What a reconciliation found, and how much of it was repaired or is left to somebody."""

    findings: list[Finding]
    repaired: int
    reported: int
    dry_run: bool


class Cure(StrEnum):
    """What brings a row and its guest together again."""

    NONE = "none"
    ACTIVE = "active"
    STOPPED = "stopped"
    LOST = "lost"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an ECS, in words, and what cures it; `remedy` where somebody else must."""

    cure: Cure
    words: str
    remedy: str = ""


PAUSED = Verdict(Cure.NONE, "its guest is paused", "Whoever paused it resumes it: `virsh resume`, or `ims ecs stop`.")
IO_ERROR = Verdict(
    Cure.NONE, "an I/O error paused its guest", "The host agent resumes it; `ims status` says whether that runs."
)
LOST = Verdict(Cure.LOST, "its domain and disks are gone from this host")
AS_SEEN = {
    (EcsState.ACTIVE, DomainState.STOPPED): Verdict(Cure.STOPPED, "its guest is off"),
    (EcsState.ACTIVE, DomainState.CRASHED): Verdict(Cure.STOPPED, "its guest crashed"),
    (EcsState.ACTIVE, DomainState.ABSENT): Verdict(Cure.STOPPED, "its domain is gone, its disks are there to start from"),
    (EcsState.ACTIVE, DomainState.PAUSED): PAUSED,
    (EcsState.ACTIVE, DomainState.IO_ERROR): IO_ERROR,
    (EcsState.STOPPED, DomainState.RUNNING): Verdict(Cure.ACTIVE, "its guest runs"),
    (EcsState.STOPPED, DomainState.PAUSED): PAUSED,
    (EcsState.STOPPED, DomainState.IO_ERROR): IO_ERROR,
}
"""Rows of launched ECSs whose files are there; what is not listed is as it should be."""


def judge(ecs: Ecs, seen: DomainState, files: EcsFiles) -> Verdict | None:
    """What is wrong with an ECS that no operation is at work on; None where row, guest and files agree."""
    if ecs.state is EcsState.BUILDING:
        return Verdict(Cure.DISCARD, "nobody builds it any more")
    whole = all(files.overlay(disk.index).exists() for disk in ecs.disks)
    if ecs.state is EcsState.ERROR:
        return _judge_error(ecs, seen, files, whole=whole)
    if seen is DomainState.ABSENT and not whole:
        return LOST
    return AS_SEEN.get((ecs.state, seen))


def _judge_error(ecs: Ecs, seen: DomainState, files: EcsFiles, *, whole: bool) -> Verdict | None:
    """An ECS whose launch failed has nothing on its host; one whose files were away comes back with them."""
    if ecs.ready_by is None:
        left = seen is not DomainState.ABSENT or files.folder.exists()
        return Verdict(Cure.DISCARD, "its launch failed and left a guest or files") if left else None
    if ecs.error_code != FILES_CODE or not whole:
        return None
    return Verdict(Cure.ACTIVE if seen is DomainState.RUNNING else Cure.STOPPED, "its disks are back")


def summed_up(findings: Sequence[Finding], *, dry_run: bool) -> ReconcileView:
    """The view of a run's findings."""
    count = [finding.action for finding in findings].count
    return ReconcileView(findings=[*findings], repaired=count("repaired"), reported=count("reported"), dry_run=dry_run)


def findings_markdown(view: ReconcileView, *, host: str) -> str:
    """The report of a run."""
    title = f"# Reconciliation of {_cell(host)}" + (" (dry run)" if view.dry_run else "")
    if not view.findings:
        return f"{title}\n\nNothing to repair."
    head = ("What", "Which", "Of", "Found", "Done", "What to do")
    rows = [(each.kind, each.subject, each.owner, each.found, each.action, each.remedy) for each in view.findings]
    return f"{title}\n\n{table(head, [tuple(_cell(text) for text in row) for row in rows])}"


def _cell(text: str) -> str:
    """Plain text in a table, whatever a path or a foreign program's error holds; our own backquotes stay."""
    return re.sub(r"([\\|*_\[\]#!~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
