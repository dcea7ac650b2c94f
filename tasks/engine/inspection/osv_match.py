"""Whether an installed version is affected by an OSV entry, and what fixes it, by OSV's evaluation algorithm.

https://ossf.github.io/osv-schema/#evaluation - of ranges only ECOSYSTEM ones count, and `limit` events do not. `c_osv` has the
structures, `version_order` the comparison, `vulnerabilities` the packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import NamedTuple

from tasks.engine.inspection import c_osv as c
from tasks.engine.inspection.facts import clean
from tasks.engine.inspection.version_order import Key, version_key

MAX_NAMES = 2000
_CVE = re.compile(r"CVE-\d{4}-\d{4,19}")
_MODULE = ".module"
"""In the release of an rpm that is part of a module, whose streams have versions of their own."""


class Installed(NamedTuple):
    """A package as entries know it: the name and version of its source, and which order its versions have."""

    name: str
    version: str
    kind: str


class Verdict(NamedTuple):
    """`fixed` is the first version above the installed one that is not affected, or empty."""

    affected: bool
    fixed: str


def vulnerability_names(entry: c.Entry) -> set[str]:
    """The CVEs that the entry is about; its own id where it names none."""
    said = chain([entry.id], entry.aliases or (), entry.upstream or ())
    names = set(islice(filter(_CVE.fullmatch, said), MAX_NAMES)) or set(
        islice(filter(_CVE.fullmatch, entry.related or ()), MAX_NAMES)
    )
    return names or {clean(entry.id, limit=32)}


def judge(affected: c.Affected, installed: Installed) -> Verdict:
    """Raises ValueError where a version, the entry's or the installed one, has no order."""
    specific = affected.ecosystem_specific
    if specific is not None and specific.urgency == c.URGENCY_UNIMPORTANT:
        return Verdict(False, "")
    own = version_key(installed.kind, installed.version)
    verdicts = [_in_range(each.events, own, installed) for each in _ranges(affected, installed)]
    listed = installed.version in (affected.versions or ())
    fixes = [verdict.fixed for verdict in verdicts if verdict.fixed and (verdict.affected or listed)]
    first = min(fixes, key=lambda version: version_key(installed.kind, version), default="")
    return Verdict(listed or any(verdict.affected for verdict in verdicts), first)


def _ranges(affected: c.Affected, installed: Installed) -> Iterator[c.Range]:
    for each in affected.ranges or ():
        if each.type == c.RANGE_ECOSYSTEM and all(_same_stream(event.fixed, installed) for event in each.events):
            yield each


def _same_stream(fixed: str | None, installed: Installed) -> bool:
    """A module's package is not fixed by another stream's, which the first number tells, nor by one outside modules."""
    if fixed is None or installed.kind != "rpm":
        return True
    modules = [_MODULE in version for version in (fixed, installed.version)]
    return not any(modules) or (all(modules) and _first_number(fixed) == _first_number(installed.version))


def _first_number(version: str) -> str:
    return version.rpartition(":")[2].split(".")[0]


def _in_range(events: list[c.Event], own: Key, installed: Installed) -> Verdict:
    """`introduced` and `fixed` are where a state begins, `last_affected` is where it still holds."""
    inside = any(event.introduced == c.INTRODUCED_FIRST for event in events)
    fixed = ""
    for bound, text, event in sorted(_bounds(events, installed.kind), key=itemgetter(0)):
        if own < bound or (event.last_affected and own == bound):
            fixed = fixed or (event.fixed and text) or ""
        else:
            inside = event.introduced is not None
    return Verdict(inside, fixed)


def _bounds(events: list[c.Event], kind: str) -> Iterator[tuple[Key, str, c.Event]]:
    for event in events:
        text = event.fixed or event.last_affected or event.introduced
        if text and event.introduced != c.INTRODUCED_FIRST:
            yield version_key(kind, text), text, event
