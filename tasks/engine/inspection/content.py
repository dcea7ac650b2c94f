"""What a scan finds on a disk, as plain bounded values: facts, findings, packages. Every text came from a hostile disk.

`scanning` gathers it. It follows from the disk's bytes and `RULES` alone, so it is kept by digest; what also depends on the day
or on an operator's data is judged over it by `support` and `vulnerabilities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from tasks.engine.inspection.facts import OsFacts, clean

RULES = "1"
"""Changes whenever a scan may find something else on the same bytes."""
MAX_FINDINGS = 500
MAX_PACKAGES = 50_000
MAX_NOTES = 200
MAX_PATH = 512


class Severity(StrEnum):
    """A finding rejects; a warning is for the reviewer to weigh."""

    FINDING = "finding"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that an image for others must not hold. `code` is stable and dotted; `path` is inside the image, or empty."""

    code: str
    path: str
    detail: str
    remedy: str
    severity: Severity = Severity.FINDING

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        texts = {name: clean(values.get(name), limit=MAX_PATH) for name in ("code", "path", "detail", "remedy")}
        return cls(**texts, severity=Severity(values.get("severity", Severity.FINDING)))


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package; `kind` is deb, rpm or apk; source names what it was built from, where that is another name."""

    name: str
    version: str
    architecture: str = ""
    kind: str = "deb"
    source: str = ""
    source_version: str = ""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{name: clean(values.get(name)) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Content:
    """The outcome of one scan; `more` counts findings that the list has no room for, `notes` say what was not looked at."""

    facts: OsFacts
    findings: tuple[Finding, ...] = ()
    packages: tuple[Package, ...] = ()
    notes: tuple[str, ...] = ()
    more: int = 0
    files: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is the way back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From plain values of any origin: texts cleaned and cut, lists bounded."""
        return cls(
            facts=OsFacts.from_json(values.get("facts") or {}),
            findings=tuple(Finding.from_json(each) for each in (values.get("findings") or ())[:MAX_FINDINGS]),
            packages=tuple(Package.from_json(each) for each in (values.get("packages") or ())[:MAX_PACKAGES]),
            notes=tuple(clean(each, limit=300) for each in (values.get("notes") or ())[:MAX_NOTES]),
            more=max(0, int(values.get("more") or 0)),
            files=max(0, int(values.get("files") or 0)),
        )
