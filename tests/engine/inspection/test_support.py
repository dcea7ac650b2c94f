"""Systems are judged by dates that have a source; what the data does not know is said to be unknown."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest

from tasks.engine.inspection.content import Finding, Severity
from tasks.engine.inspection.facts import OsFacts
from tasks.engine.inspection.support import DATA, SOON, support_end, support_finding, system_name

TODAY = date(2026, 11, 25)


def system(distro: str, major: int, minor: int = 0, product: str = "unknown") -> OsFacts:
    return OsFacts(type="linux", distro=distro, major=major, minor=minor, product_name=product)


def judged(facts: OsFacts, today: date = TODAY) -> Finding | None:
    return support_finding(facts, today=today)


@pytest.mark.parametrize(
    "facts",
    [
        system("debian", 12, 5),
        system("ubuntu", 22, 4),
        system("rocky", 9, 4),
        system("redhat-based", 9, 4, "AlmaLinux release 9.4 (Seafoam Ocelot)"),
        system("unknown", 2023, 0, "Amazon Linux 2023"),
        system("alpinelinux", 3, 22),
        system("archlinux", 0),
        system("opensuse", 99_999, 0, "openSUSE Tumbleweed"),
    ],
    ids=lambda facts: f"{facts.distro}-{facts.major}",
)
def test_a_system_with_updates_has_no_finding(facts: OsFacts):
    assert judged(facts) is None


@pytest.mark.parametrize(
    ("facts", "end"),
    [
        (system("debian", 11, 6), "2026-08-31"),
        (system("ubuntu", 24, 10), "2025-07-10"),
        (system("centos", 8, 5, "CentOS Linux release 8.5.2111"), "2021-12-31"),
        (system("centos", 8, 0, "CentOS Stream release 8"), "2024-05-31"),
        (system("sles", 15, 6), "2025-12-31"),
        (system("unknown", 2018, 3, "Amazon Linux AMI 2018.03"), "2023-12-31"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.distro,
)
def test_a_system_past_its_end_is_a_finding_with_the_date(facts: OsFacts, end: str):
    found = judged(facts)
    assert found is not None
    assert (found.code, found.severity) == ("os.end_of_life", Severity.FINDING)
    assert end in found.detail
    assert found.remedy


def test_the_last_day_is_a_supported_one():
    facts = system("debian", 11)
    end = support_end(facts)
    assert end == date(2026, 8, 31)
    on_the_day, after = judged(facts, end), judged(facts, end + timedelta(days=1))
    assert on_the_day is not None
    assert after is not None
    assert (on_the_day.code, after.code) == ("os.ends_soon", "os.end_of_life")


def test_a_near_end_is_a_warning():
    facts = system("ubuntu", 22, 4, "Ubuntu 22.04.5 LTS")
    found = judged(facts, date(2027, 6, 1) - SOON)
    assert found is not None
    assert (found.code, found.severity) == ("os.ends_soon", Severity.WARNING)
    assert found.detail == "support of Ubuntu 22.04.5 LTS ends on 2027-06-01"
    assert judged(facts, date(2027, 6, 1) - SOON - timedelta(days=1)) is None


@pytest.mark.parametrize(
    "facts",
    [
        OsFacts(reason="no operating system was found on the disk"),
        system("debian", 99),
        system("ubuntu", 2),
        system("templeos", 5),
    ],
)
def test_what_the_data_does_not_know_is_a_warning(facts: OsFacts):
    found = judged(facts)
    assert found is not None
    assert (found.code, found.severity) == ("os.unknown", Severity.WARNING)


def test_relatives_have_names_of_their_own():
    assert system_name(system("centos", 9, 0, "CentOS Stream release 9")) == "centos-stream"
    assert system_name(system("centos", 7, 9, "CentOS Linux release 7.9.2009 (Core)")) == "centos"


def test_the_data_is_dates_with_a_source():
    data = json.loads(DATA.read_text(encoding="utf-8"))
    assert data["source"]
    assert date.fromisoformat(data["as_of"])
    ends = [end for table in ("ends", "extended") for versions in data[table].values() for end in versions.values()]
    assert all(date.fromisoformat(end) for end in ends)
    for name, versions in data["extended"].items():
        assert all(end > data["ends"][name][version] for version, end in versions.items())
