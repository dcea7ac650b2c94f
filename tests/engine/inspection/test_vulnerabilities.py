"""Installed packages against OSV entries as the databases write them, and dumps that are broken or hostile."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.errors import RequestRefused
from tasks.engine.inspection import osv_dump
from tasks.engine.inspection.content import MAX_FINDINGS, Content, Finding, Package, Severity
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.vulnerabilities import NAMED, known_vulnerabilities, osv_ecosystem

DEBIAN = OsFacts(type="linux", distro="debian", major=12, minor=5)
ROCKY = OsFacts(type="linux", distro="rocky", major=9, minor=4)
ALPINE = OsFacts(type="linux", distro="alpinelinux", major=3, minor=18)
LIBSSL = Package(name="libssl3", version="3.0.11-1~deb12u2", architecture="amd64", source="openssl")

MakeDump = Callable[..., Path]


def events(*pairs: str) -> list[dict[str, str]]:
    return [dict([pair.split("=", 1)]) for pair in pairs]


def entry(
    *changes: str, name: str = "openssl", cve: str = "CVE-2024-0001", ecosystem: str = "Debian:12", **more: Any
) -> dict[str, Any]:
    """As Debian's entries are: an id of its own, and the CVE as what is upstream of it."""
    affected = {
        "package": {"ecosystem": ecosystem, "name": name, "purl": f"pkg:deb/debian/{name}"},
        "ranges": [{"type": "ECOSYSTEM", "events": events(*(changes or ("introduced=0",)))}],
    }
    return {"id": f"DEBIAN-{cve}", "upstream": [cve], "affected": [affected]} | more


@pytest.fixture
def make_dump(tmp_path: Path) -> MakeDump:
    def make(*entries: dict[str, Any] | bytes, name: str = "all.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, each in enumerate(entries):
                archive.writestr(f"{number}.json", each if isinstance(each, bytes) else json.dumps(each))
        return path

    return make


def found(dump: Path, *packages: Package, facts: OsFacts = DEBIAN) -> list[Finding]:
    return known_vulnerabilities(Content(facts=facts, packages=packages or (LIBSSL,)), dump=dump)


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_a_fixed_vulnerability_is_a_finding_that_says_the_update(make_dump: MakeDump):
    dump = make_dump(
        entry("introduced=0", "fixed=3.0.13-1~deb12u1"), entry("introduced=0", "fixed=3.0.11-1~deb12u3", cve="CVE-2024-0002")
    )
    [finding] = found(dump)
    assert (finding.code, finding.severity) == ("vulnerability.known", Severity.FINDING)
    assert finding.detail == (
        "openssl 3.0.11-1~deb12u2 has known vulnerabilities: 2, fixed by an update: 2 (CVE-2024-0002, CVE-2024-0001)"
    )
    assert finding.remedy == "Upgrade openssl to 3.0.13-1~deb12u1 or later and capture anew."


def test_an_unfixed_vulnerability_is_a_warning(make_dump: MakeDump):
    [finding] = found(make_dump(entry("introduced=0")))
    assert (finding.code, finding.severity) == ("vulnerability.unfixed", Severity.WARNING)
    assert "vulnerabilities: 1, fixed by an update: 0" in finding.detail


def test_fixed_and_unfixed_ones_of_a_package_are_one_finding(make_dump: MakeDump):
    packages = (
        LIBSSL,
        Package(name="openssl", version="3.0.11-1~deb12u2"),
        Package(name="libssl-dev", version="3.0.11-1~deb12u2", source="openssl"),
    )
    [finding] = found(make_dump(entry(cve="CVE-2024-0003"), entry("introduced=0", "fixed=3.0.13-1")), *packages)
    assert finding.code == "vulnerability.known"
    assert "vulnerabilities: 2, fixed by an update: 1 (CVE-2024-0001, CVE-2024-0003)" in finding.detail


def test_an_entry_with_a_fix_beats_one_without(make_dump: MakeDump):
    [finding] = found(make_dump(entry("introduced=0", "fixed=3.0.13-1"), entry("introduced=0", id="DSA-1-1")))
    assert "vulnerabilities: 1, fixed by an update: 1" in finding.detail


@pytest.mark.parametrize(
    ("changes", "affected"),
    [
        (("introduced=0", "fixed=3.0.11-1~deb12u2"), False),
        (("introduced=0", "fixed=3.0.11-1"), True),
        (("introduced=0", "fixed=3.0.9-1"), False),
        (("introduced=3.0.11-1~deb12u2", "fixed=3.0.13-1"), True),
        (("introduced=3.0.12-1", "fixed=3.0.13-1"), False),
        (("introduced=0", "last_affected=3.0.11-1~deb12u2"), True),
        (("introduced=0", "last_affected=3.0.11-1~deb12u1"), False),
        (("introduced=0", "fixed=1.0", "introduced=3.0.0", "fixed=3.0.13-1"), True),
        (("fixed=3.0.13-1", "introduced=3.0.0", "fixed=1.0", "introduced=0"), True),
        (("introduced=0", "fixed=1.0", "introduced=3.0.12-1"), False),
        (("introduced=0", "limit=3.0.1"), True),
    ],
)
def test_ranges_are_walked_in_the_order_of_versions(make_dump: MakeDump, changes: tuple[str, ...], affected: bool):
    assert bool(found(make_dump(entry(*changes)))) == affected


def test_a_listed_version_is_affected_and_knows_the_fix(make_dump: MakeDump):
    listed = entry("introduced=3.0.12-1", "fixed=3.0.13-1")
    listed["affected"][0]["versions"] = ["3.0.11-1~deb12u2"]
    [finding] = found(make_dump(listed))
    assert "3.0.13-1" in finding.remedy


def test_binaries_with_a_version_of_their_own_go_by_their_source(make_dump: MakeDump):
    binary = Package(name="libx", version="9.0-1+b1", source="openssl", source_version="3.0.11-1")
    [finding] = found(make_dump(entry("introduced=0", "fixed=3.0.13-1")), binary)
    assert finding.detail.startswith("openssl 3.0.11-1 has")


@pytest.mark.parametrize(
    "other",
    [
        entry(name="libssl3"),
        entry(ecosystem="Debian:11"),
        entry(ecosystem="Debian:12:x"),
        entry(withdrawn="2024-01-01T00:00:00Z"),
        {
            "id": "X",
            "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"}, "ranges": [{"type": "GIT", "events": []}]}],
        },
    ],
    ids=["binary", "release", "suffix", "withdrawn", "git"],
)
def test_entries_about_something_else_do_not_count(make_dump: MakeDump, other: dict[str, Any]):
    assert found(make_dump(other, entry(name="unrelated"))) == []


def test_what_debian_calls_unimportant_does_not_count(make_dump: MakeDump):
    unimportant = entry()
    unimportant["affected"][0]["ecosystem_specific"] = {"urgency": "unimportant"}
    assert found(make_dump(unimportant)) == []


@pytest.mark.parametrize(
    ("facts", "ecosystem"),
    [
        (DEBIAN, "Debian:12"),
        (OsFacts(type="linux", distro="ubuntu", major=22, minor=4), "Ubuntu:22.04:LTS"),
        (OsFacts(type="linux", distro="ubuntu", major=22, minor=10), "Ubuntu:22.10"),
        (OsFacts(type="linux", distro="ubuntu", major=25, minor=4), "Ubuntu:25.04"),
        (ALPINE, "Alpine:v3.18"),
        (ROCKY, "Rocky Linux:9"),
        (OsFacts(type="linux", distro="redhat-based", major=9, minor=4, product_name="AlmaLinux release 9.4"), "AlmaLinux:9"),
        (OsFacts(type="linux", distro="opensuse", major=15, minor=6, product_name="openSUSE Leap 15.6"), "openSUSE:Leap 15.6"),
        (OsFacts(type="linux", distro="opensuse", major=99_999, product_name="openSUSE Tumbleweed"), ""),
        (OsFacts(type="linux", distro="fedora", major=42), ""),
        (OsFacts(), ""),
    ],
)
def test_releases_have_osv_names(facts: OsFacts, ecosystem: str):
    assert osv_ecosystem(facts) == ecosystem


def test_apk_packages_are_matched(make_dump: MakeDump):
    busybox = Package(name="ssl_client", version="1.36.1-r0", kind="apk", source="busybox")
    dump = make_dump(entry("introduced=0", "fixed=1.36.1-r1", name="busybox", ecosystem="Alpine:v3.18"))
    assert codes(found(dump, busybox, facts=ALPINE)) == ["vulnerability.known"]


@pytest.mark.parametrize(
    ("name", "version", "fixed", "affected"),
    [
        ("openssl", "1:3.0.7-27.el9", "1:3.0.7-28.el9_4", True),
        ("openssl-libs", "1:3.0.7-27.el9", "1:3.0.7-28.el9_4", True),
        ("openssl", "1:3.0.7-27.el9", "0:9.0-1.el9", False),
        ("nodejs", "1:18.1-1.module+el9", "1:18.2-1.module+el9", True),
        ("nodejs", "1:18.1-1.module+el9", "1:20.2-1.module+el9", False),
        ("nodejs", "1:16.1-1.el9", "1:16.2-1.module+el9", False),
    ],
)
def test_rpm_packages_are_matched_by_either_name(make_dump: MakeDump, name: str, version: str, fixed: str, affected: bool):
    package = Package(name=name, version=version, kind="rpm", source=name.removesuffix("-libs"))
    dump = make_dump(
        entry("introduced=0", f"fixed={fixed}", ecosystem="Rocky Linux:9", name=name),
        entry("introduced=0", f"fixed={fixed}", ecosystem="Rocky Linux:9", name=package.source),
    )
    assert codes(found(dump, package, facts=ROCKY)) == ["vulnerability.known"] * affected


def test_an_rpm_with_another_version_than_its_source_is_not_taken_for_it(make_dump: MakeDump):
    dump = make_dump(entry("introduced=0", "fixed=4:5.32.1-481.el9", name="perl", ecosystem="Rocky Linux:9"))
    errno = Package(name="perl-Errno", version="1.30-480.el9", kind="rpm", source="perl", source_version="5.32.1-480.el9")
    libs = Package(name="perl-libs", version="4:5.32.1-480.el9", kind="rpm", source="perl", source_version="5.32.1-480.el9")
    assert found(dump, errno, facts=ROCKY) == []
    [finding] = found(dump, errno, libs, facts=ROCKY)
    assert finding.detail.startswith("perl 4:5.32.1-480.el9 has")


def test_names_are_bounded_and_counted(make_dump: MakeDump):
    [finding] = found(make_dump(entry(upstream=[f"CVE-2024-{n:04}" for n in range(40)])))
    assert "vulnerabilities: 40," in finding.detail
    assert finding.detail.endswith("and 28 more)")
    assert finding.detail.count("CVE-") == NAMED


def test_older_entries_name_their_cves_as_related(make_dump: MakeDump):
    old = entry() | {"id": "DSA-1-1", "upstream": None, "related": ["CVE-2020-1234", "DSA-2"]}
    bare = entry() | {"id": "DSA-3-1", "upstream": []}
    [finding] = found(make_dump(old, bare))
    assert "vulnerabilities: 2, fixed by an update: 0 (DSA-3-1, CVE-2020-1234)" in finding.detail


def test_findings_are_bounded_with_the_worst_first(make_dump: MakeDump):
    packages = [Package(name=f"p{n:03}", version="1") for n in range(MAX_FINDINGS + 5)]
    entries = [entry(name=each.name) for each in packages[:-1]] + [entry("introduced=0", "fixed=2", name=packages[-1].name)]
    findings = found(make_dump(*entries), *packages)
    assert len(findings) == MAX_FINDINGS + 1
    assert findings[0].code == "vulnerability.known"
    assert findings[-1].code == "vulnerability.unchecked"
    assert findings[-1].detail == "packages with known vulnerabilities beyond this list: 5"


BROKEN = (
    b"",
    b'{"Debian:12", "name": "openssl"',
    b'{"id": 7, "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"}}]}',
    b'{"id": "X", "affected": {"package": {"ecosystem": "Debian:12", "name": "openssl"}}}',
    b'["Debian:12", {"name": "openssl"}, ' + b"[" * 100_000,
    b'{"id": "\xff", "a": "Debian:12", "name": "openssl"}',
    json.dumps(entry("introduced=0", "fixed=not a version")).encode(),
    json.dumps(entry("introduced=0", "fixed=" + "1" * 9999)).encode(),
)


def test_broken_entries_are_skipped_and_counted(make_dump: MakeDump):
    findings = found(make_dump(*BROKEN, entry("introduced=0", "fixed=3.0.13-1")))
    assert codes(findings) == ["vulnerability.known", "vulnerability.unchecked"]
    assert findings[1].detail == f"entries of the dump that could not be read or judged: {len(BROKEN)} of {len(BROKEN) + 1}"


def test_escaped_names_are_found(make_dump: MakeDump):
    raw = json.dumps(entry(name="libc++")).replace("libc++", "libc\\u002b+").encode()
    assert codes(found(make_dump(raw), Package(name="libc++", version="1"))) == ["vulnerability.unfixed"]


def test_a_folder_of_entries_and_zips_is_a_dump(tmp_path: Path, make_dump: MakeDump):
    make_dump(entry("introduced=0", "fixed=3.0.13-1"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.json").write_text(json.dumps(entry(name="zlib")))
    (tmp_path / "README.md").write_text("no entry")
    findings = found(tmp_path, LIBSSL, Package(name="zlib", version="1"))
    assert codes(findings) == ["vulnerability.known", "vulnerability.unfixed"]


def test_what_cannot_be_checked_is_said(make_dump: MakeDump):
    dump = make_dump(entry(ecosystem="Debian:11"))
    assert [each.detail for each in found(dump)] == ["the dump has no entry for Debian:12"]
    fedora = OsFacts(type="linux", distro="fedora", major=42)
    assert [each.detail for each in found(dump, facts=fedora)] == [
        "vulnerabilities of fedora 42 cannot be looked up in an OSV dump"
    ]
    odd = found(make_dump(entry()), Package(name="x", version="?"))
    assert [each.detail for each in odd] == ["packages whose version cannot be compared: 1"]


def make_no_dump(folder: Path, kind: str) -> Path:
    path = folder / "dump"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "no zip":
        path.write_text("no zip")
    elif kind == "cut zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.json", "{}" * 100)
        path.write_bytes(path.read_bytes()[:-30])
    return path


@pytest.mark.parametrize("kind", ["absent", "empty folder", "no zip", "cut zip"])
def test_what_is_no_dump_is_refused(tmp_path: Path, kind: str):
    with pytest.raises(RequestRefused, match=r"request\.osv_dump.*osv\.dev"):
        found(make_no_dump(tmp_path, kind))


def test_an_absent_dump_is_refused_for_any_system(tmp_path: Path):
    with pytest.raises(RequestRefused, match="no OSV dump"):
        found(tmp_path / "absent", facts=OsFacts())


def test_entries_that_are_too_long_are_skipped(make_dump: MakeDump, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(osv_dump, "MAX_ENTRY", 1000)
    bomb = b'{"x": "' + b"0" * 10_000_000
    findings = found(make_dump(bomb, entry()))
    assert codes(findings) == ["vulnerability.unfixed", "vulnerability.unchecked"]


@pytest.mark.parametrize(("bound", "value"), [("MAX_ENTRIES", 2), ("MAX_BYTES", 300)])
def test_a_dump_beyond_the_bounds_is_refused(make_dump: MakeDump, monkeypatch: pytest.MonkeyPatch, bound: str, value: int):
    monkeypatch.setattr(osv_dump, bound, value)
    with pytest.raises(RequestRefused, match="holds over"):
        found(make_dump(entry(), entry(), entry()))


def test_a_damaged_member_is_skipped(make_dump: MakeDump):
    path = make_dump(entry(cve="CVE-2024-0009"), entry())
    raw = bytearray(path.read_bytes())
    raw[45:60] = bytes(15)
    path.write_bytes(raw)
    assert codes(found(path)) == ["vulnerability.unfixed", "vulnerability.unchecked"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_without_a_memory_bound_are_skipped(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "all.zip", "w", method) as archive:
        archive.writestr("1.json", json.dumps(entry()))
    assert [each.detail for each in found(tmp_path / "all.zip")] == [
        "the dump has no entry for Debian:12",
        "entries of the dump that could not be read or judged: 1 of 1",
    ]


def test_the_outcome_does_not_depend_on_any_order(make_dump: MakeDump):
    entries = [entry("introduced=0", f"fixed={n}", name=f"p{n % 5}", cve=f"CVE-2024-{n:04}") for n in range(2, 40)]
    packages = [Package(name=f"p{n}", version="1") for n in range(5)]
    assert found(make_dump(*entries), *packages) == found(make_dump(*entries[::-1], name="b.zip"), *packages[::-1])
