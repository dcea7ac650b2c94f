"""Whether the system found still gets security updates on a given day, by os_support.json, which names its sources.

The dates change without the disk changing, so this is judged anew whenever it matters and never kept with a scan.
"""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tasks.engine.inspection.content import Finding, Severity
from tasks.engine.inspection.facts import UNKNOWN, OsFacts

DATA = Path(__file__).with_name("os_support.json")
SOON = timedelta(days=90)
_UPGRADE = "Upgrade the system to a supported release and capture it anew."


def support_finding(facts: OsFacts, *, today: date) -> Finding | None:
    """`os.end_of_life` (a finding), `os.ends_soon` or `os.unknown` (warnings), or None for a system with updates.

    The last day of support is a supported one; rolling releases are supported.
    """
    if not facts.known:
        return _warning("os.unknown", f"no operating system is known: {facts.reason or 'the disk tells none'}")
    if system_name(facts) in _data()["rolling"]:
        return None
    end = support_end(facts)
    if end is None:
        return _warning("os.unknown", f"the support dates of {_data()['as_of']} do not know {_label(facts)}")
    if end < today:
        detail = f"support of {_label(facts)} ended on {end.isoformat()}"
        return Finding(code="os.end_of_life", path="", detail=detail, remedy=_UPGRADE)
    if end - today <= SOON:
        return _warning("os.ends_soon", f"support of {_label(facts)} ends on {end.isoformat()}", remedy=_UPGRADE)
    return None


def support_end(facts: OsFacts) -> date | None:
    """The last day with updates for everybody, extensions included where they are free; None where the data knows none."""
    name = system_name(facts)
    known = _data()["ends"].get(name, {}) | _data()["extended"].get(name, {})
    end = next((known[version] for version in _versions(facts) if version in known), None)
    return date.fromisoformat(end) if end else None


def system_name(facts: OsFacts) -> str:
    """libguestfs's name of the distribution, or ours for one that libguestfs only knows as a relative of another."""
    products: dict[str, str] = _data()["products"]
    return next((name for prefix, name in products.items() if facts.product_name.startswith(prefix)), facts.distro)


def version_text(facts: OsFacts) -> str:
    """The version as its vendor writes it: Ubuntu's 22.4 is 22.04; Debian, Fedora and Red Hat's relatives count majors only."""
    if facts.distro == "ubuntu":
        return f"{facts.major}.{facts.minor:02}"
    return f"{facts.major}.{facts.minor}" if facts.distro in ("alpinelinux", "opensuse", "sles") else f"{facts.major}"


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return data


def _versions(facts: OsFacts) -> tuple[str, ...]:
    """How the data may write the version: Ubuntu's 22.4 is 22.04, Debian's 12.5 is 12."""
    return f"{facts.major}.{facts.minor}", f"{facts.major}.{facts.minor:02}", f"{facts.major}"


def _label(facts: OsFacts) -> str:
    named = facts.product_name != UNKNOWN
    return facts.product_name if named else f"{facts.distro} {facts.major}.{facts.minor}"


def _warning(code: str, detail: str, *, remedy: str = "") -> Finding:
    remedy = remedy or "Make sure that the system still gets security updates, and say so in the review."
    return Finding(code=code, path="", detail=detail, remedy=remedy, severity=Severity.WARNING)
