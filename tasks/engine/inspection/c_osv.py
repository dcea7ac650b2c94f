"""The parts of an OSV entry that decide whether a package is affected, with the specification's own names.

https://ossf.github.io/osv-schema/ - all else in an entry is ignored. `osv_dump` reads entries, `vulnerabilities` matches them.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

RANGE_ECOSYSTEM = "ECOSYSTEM"
INTRODUCED_FIRST = "0"
"""An `introduced` that is before every version."""
URGENCY_UNIMPORTANT = "unimportant"
"""Debian's word for an entry without a security impact on its packages."""


class Event(BaseModel):
    """One of the three; `limit` is for commits and not looked at."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class Range(BaseModel):
    type: str
    events: list[Event] = Field(default_factory=list)


class OsvPackage(BaseModel):
    ecosystem: str
    name: str


class EcosystemSpecific(BaseModel):
    urgency: object = None


class Affected(BaseModel):
    package: OsvPackage | None = None
    ranges: list[Range] | None = None
    versions: list[str] | None = None
    ecosystem_specific: EcosystemSpecific | None = None


class Entry(BaseModel):
    """`upstream` names the vulnerabilities that a distribution's entry is about, `related` did so in older ones."""

    id: str
    withdrawn: str | None = None
    aliases: list[str] | None = None
    upstream: list[str] | None = None
    related: list[str] | None = None
    affected: list[Affected] | None = None
