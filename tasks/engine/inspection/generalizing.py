"""Generalising a captured guest's disks with libguestfs: what makes it this guest goes, so that two made from it differ.

The work is done by `generalize_child` in a child process that is limited and always ended; `c_generalize` says what goes.
Making the overlays, and throwing them away after a failure, is the caller's part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.errors import CaptureRefused, HostUnavailable, ImsError
from tasks.engine.inspection.appliance import InspectionLimits, ask_child, does_not_start, reason_of
from tasks.engine.inspection.c_generalize import IO_ERROR, MAX_NOTES, MAX_REMOVED
from tasks.engine.inspection.facts import OsFacts, clean

_CHILD = "tasks.engine.inspection.generalize_child"
_MAX_PATH = 512
_MAX_SIZE = (1 << 63) - 1
_WORKING_SHARE = 0.7
"""Of the time: then nothing more is searched or overwritten, and what was found is removed in the rest."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """A path of the guest that was removed, or emptied; `size` is the bytes it held."""

    operation: str
    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Generalized:
    """`facts` of the system, what was `removed` (`more` counts what the list has no room for), what was `skipped` and why."""

    facts: OsFacts
    removed: tuple[Removed, ...]
    more: int = 0
    skipped: tuple[str, ...] = ()


def generalize(overlays: Sequence[Path], limits: InspectionLimits) -> Generalized:
    """Generalise the Linux guest whose disks, the system's first, are these writable qcow2 overlays.

    Their headers must name their backing files and formats: nothing is probed. Raises CaptureRefused where there is no Linux
    system or it cannot be written, HostUnavailable where libguestfs does not work here, a disk does not answer or time runs
    out. The overlays are then in no defined state.
    """
    if not overlays:
        raise ValueError("a guest has at least one disk")
    request = {"overlays": [str(each.absolute()) for each in overlays], "seconds": limits.timeout_seconds * _WORKING_SHARE}
    with tempfile.TemporaryDirectory(prefix="ims-guestfs-", ignore_cleanup_errors=True) as folder:
        answer = ask_child(_CHILD, request, limits, folder=Path(folder))
    if "removed" not in answer:
        raise _failure(answer)
    return _generalized(answer)


def _failure(answer: Mapping[str, Any]) -> ImsError:
    """Whose fault it is that nothing came of it."""
    if "launched" not in answer:
        return does_not_start(answer)
    reason = reason_of(answer)
    if "late" in answer or reason.endswith(IO_ERROR):
        return HostUnavailable("inspection", f"the disks could not be generalised: {reason}")
    return CaptureRefused("generalize", f"the disks cannot be generalised: {reason}", remedy="Capture it with --no-generalize.")


def _generalized(answer: Mapping[str, Any]) -> Generalized:
    """The child's answer, bounded and cleaned once more: it has read a hostile guest."""
    return Generalized(
        facts=OsFacts.from_json(answer["facts"]),
        removed=tuple(_removed(each) for each in answer["removed"][:MAX_REMOVED]),
        more=int(answer["more"]),
        skipped=tuple(clean(each, limit=300) for each in answer["skipped"][: MAX_NOTES + 1]),
    )


def _removed(values: Mapping[str, Any]) -> Removed:
    size = min(max(int(values["size"]), 0), _MAX_SIZE)
    return Removed(operation=clean(values["operation"]), path=clean(values["path"], limit=_MAX_PATH), size=size)
