"""The table of a fault run, as docs/faults.md has it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.faults.operations import Problem
from benchmarks.faults.rounds import Round

TARGET = Path(__file__).parents[2] / "docs" / "faults.md"
HEAD = ("Fault", "Operation", "Faults", "Ended by itself", "Reconciled", "Taken over", "Repeated", "Median s", "Longest s")
WRONG = ("lost", "double", "left", "stuck", "unclean")
PLANTED = """
That the check at the end can fail was shown after it: each of these was made so, and the check called it by its name.
"""
INTRODUCTION = """# Faults

Operations of a deployment while its store, its database, its Prefect server and its worker fail, made by

    {command}

Each round draws an operation (by a command of its own, or handed to the worker), a fault, and the moment: at the n-th request
to the store, or after a share of the time that the operation usually takes. Then the run must end or be closed by a
reconciliation within two minutes, the same command with the same key is repeated until it is done, and what it made is
compared with what was asked for. Seconds are from the beginning of the fault until it is done.

- *Ended by itself*: the run went on and was done.
- *Reconciled*: it was killed, and the host's watcher had it closed.
- *Taken over*: it was killed, and the same command took it over at once.
- *Repeated*: it failed with a named, passing error.

At the end: two reconciliations, of which the second finds nothing, `ims store verify --all`, `ims store gc --apply
--keep-hours 0`; every image reported as active is there once with the SHA-256 of what was imported, every ECS has its domain,
no domain, folder, lock, operation or run is left, and the bucket holds exactly the objects that are needed.
"""


def table(rounds: Sequence[Round], problems: Sequence[Problem], proofs: Sequence[tuple[str, bool]] = ()) -> str:
    """Markdown: one line for each fault and operation, the sums, every problem by name, then whether each plant was named."""
    groups: dict[tuple[str, str], list[Round]] = defaultdict(list)
    for each in rounds:
        groups[str(each.draw.kind), each.operation].append(each)
    lines = [_line(HEAD), _line("---" if place < 2 else "---:" for place in range(len(HEAD)))]
    lines += [_line((*group, *_figures(groups[group]))) for group in sorted(groups)]
    if rounds:
        lines.append(_line(("**all**", "", *_figures(rounds))))
    counts = ", ".join(f"{kind} {sum(each.kind == kind for each in problems)}" for kind in WRONG)
    named = [f"- {each.kind}: {each.text}" for each in problems]
    said = [f"- {what}: {'named' if found else 'OVERLOOKED'}" for what, found in proofs]
    ends = [["", f"{len(rounds)} faults; {counts}."], *([["", *named]] if named else [])]
    return "\n".join([*lines, *(line for end in ends for line in end), *([PLANTED, *said] if said else [])])


def write(text: str, *, command: str) -> None:
    """Put it into docs/faults.md."""
    TARGET.write_text(INTRODUCTION.format(command=command) + "\n" + text + "\n")


def _figures(rounds: Sequence[Round]) -> list[str]:
    endings = [sum(each.ending == how for each in rounds) for how in ("itself", "reconciled", "taken over", "repeated")]
    took = [each.seconds for each in rounds]
    return [str(len(rounds)), *map(str, endings), f"{statistics.median(took):.1f}", f"{max(took):.1f}"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
