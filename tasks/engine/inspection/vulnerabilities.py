"""Which installed packages have known vulnerabilities, by an OSV dump that the operator supplies; the network is never asked.

deb and apk packages are matched by their source package, rpm packages by either name, because the databases differ there.
Limits: of a module (Rocky Linux, AlmaLinux) only the first number tells its streams apart; what Debian calls unimportant is
left out; a system without an OSV ecosystem of its release is not checked, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.engine.inspection import c_osv as c
from tasks.engine.inspection.content import MAX_FINDINGS, MAX_PATH, Content, Finding, Package, Severity
from tasks.engine.inspection.facts import OsFacts, clean
from tasks.engine.inspection.osv_dump import OsvDump
from tasks.engine.inspection.osv_match import Installed, judge, vulnerability_names
from tasks.engine.inspection.support import system_name, version_text
from tasks.engine.inspection.version_order import version_key

NAMED = 12
"""How many vulnerabilities a finding names; it counts them all."""
ECOSYSTEMS = {
    "almalinux": "AlmaLinux:",
    "alpinelinux": "Alpine:v",
    "debian": "Debian:",
    "opensuse": "openSUSE:Leap ",
    "rocky": "Rocky Linux:",
    "ubuntu": "Ubuntu:",
}
_LTS_MINOR = 4

_ByName = dict[str, set[Installed]]


def known_vulnerabilities(content: Content, *, dump: Path) -> list[Finding]:
    """One finding per source package and version: `vulnerability.known` (a finding) where an update fixes any of them, else
    `vulnerability.unfixed` (a warning). `vulnerability.unchecked` (a warning) says what could not be checked.

    `dump` is a zip or a folder, as `osv_dump` reads them; raises RequestRefused (request.osv_dump) where it is neither.
    """
    installed, disordered = _installed(content.packages)
    source = OsvDump(path=dump, ecosystem=osv_ecosystem(content.facts), names=installed.keys())
    known = _exposures(source, installed)
    found = sorted((known[package].finding(package) for package in sorted(known)), key=lambda finding: finding.severity)
    notes = _unchecked(content.facts, source, disordered=disordered, surplus=len(found) - MAX_FINDINGS)
    return found[:MAX_FINDINGS] + [_note(text) for text in notes]


def osv_ecosystem(facts: OsFacts) -> str:
    """OSV's name of the release, such as Debian:12 or Ubuntu:22.04:LTS; empty where it has none that can be matched."""
    name = system_name(facts)
    lts = name == "ubuntu" and facts.minor == _LTS_MINOR and facts.major % 2 == 0
    return f"{ECOSYSTEMS[name]}{version_text(facts)}{':LTS' if lts else ''}" if name in ECOSYSTEMS else ""


@dataclass
class _Exposure:
    """The vulnerabilities of a package by name, and the versions that fix some of them."""

    fixed: set[str] = field(default_factory=set)
    unfixed: set[str] = field(default_factory=set)
    updates: set[str] = field(default_factory=set)

    def add(self, names: set[str], fixed: str) -> None:
        """One entry may know of a fix that another does not."""
        (self.fixed if fixed else self.unfixed).update(names)
        self.updates |= {fixed} if fixed else set()

    def finding(self, package: Installed) -> Finding:
        names = sorted(self.fixed, reverse=True) + sorted(self.unfixed - self.fixed, reverse=True)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        said = f"vulnerabilities: {len(names)}, fixed by an update: {len(self.fixed)} ({', '.join(names[:NAMED])}{more})"
        detail = clean(f"{package.name} {package.version} has known {said}", limit=MAX_PATH)
        if not self.fixed:
            remedy = "No update is known: weigh it, or remove the package and capture anew."
            return Finding(code="vulnerability.unfixed", path="", detail=detail, remedy=remedy, severity=Severity.WARNING)
        least = max(self.updates, key=lambda version: version_key(package.kind, version))
        remedy = clean(f"Upgrade {package.name} to {least} or later and capture anew.", limit=MAX_PATH)
        return Finding(code="vulnerability.known", path="", detail=detail, remedy=remedy)


def _installed(packages: Iterable[Package]) -> tuple[_ByName, int]:
    """The packages by every name that an entry may give them, and how many have a version without an order."""
    found: _ByName = {}
    disordered = 0
    for package in packages:
        one = _of_source(package)
        try:
            version_key(one.kind, one.version)
        except ValueError:
            disordered += 1
            continue
        for name in {one.name, package.name} if package.kind == "rpm" else {one.name}:
            found.setdefault(name, set()).add(one)
    return found, disordered


def _of_source(package: Package) -> Installed:
    """A deb's source may have a version of its own. An rpm's source has no epoch, so one with another version is of no use."""
    if package.kind != "rpm":
        return Installed(package.source or package.name, package.source_version or package.version, package.kind)
    same = package.source_version in ("", package.version.rpartition(":")[2])
    return Installed(package.source if package.source and same else package.name, package.version, "rpm")


def _exposures(source: OsvDump, installed: _ByName) -> dict[Installed, _Exposure]:
    """What every affected package is affected by; entries with versions that have no order count as unreadable."""
    known: dict[Installed, _Exposure] = {}
    for entry in source.entries():
        for affected, package in _candidates(entry, source.ecosystem, installed):
            try:
                verdict = judge(affected, package)
            except ValueError:
                source.unreadable += 1
                continue
            if verdict.affected:
                known.setdefault(package, _Exposure()).add(vulnerability_names(entry), verdict.fixed)
    return known


def _candidates(entry: c.Entry, ecosystem: str, installed: _ByName) -> Iterator[tuple[c.Affected, Installed]]:
    """The packages that the entry speaks of; none where it was withdrawn."""
    for affected in entry.affected or () if not entry.withdrawn else ():
        if affected.package and affected.package.ecosystem == ecosystem:
            for package in installed.get(affected.package.name, ()):
                yield affected, package


def _unchecked(facts: OsFacts, source: OsvDump, *, disordered: int, surplus: int) -> Iterator[str]:
    if not source.ecosystem:
        yield f"vulnerabilities of {facts.distro} {version_text(facts)} cannot be looked up in an OSV dump"
    elif not source.concerned:
        yield f"the dump has no entry for {source.ecosystem}"
    if disordered:
        yield f"packages whose version cannot be compared: {disordered}"
    if source.unreadable:
        yield f"entries of the dump that could not be read or judged: {source.unreadable} of {source.read}"
    if surplus > 0:
        yield f"packages with known vulnerabilities beyond this list: {surplus}"


def _note(text: str) -> Finding:
    remedy = "Check it in another way, or give a dump that has it."
    return Finding(
        code="vulnerability.unchecked", path="", detail=clean(text, limit=300), remedy=remedy, severity=Severity.WARNING
    )
