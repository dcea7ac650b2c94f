"""Versions come in the order in which their package managers have them."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.engine.inspection.version_order import MAX_VERSION, version_key

DEB = [
    "0~",
    "0",
    "1.0~rc1-1",
    "1.0-1",
    "1.0-1+deb12u1",
    "1.0-1+deb12u2",
    "1.0-1+deb12u10",
    "1.0-2",
    "1.0a-1",
    "1.0.1-1",
    "1.10-1",
    "1:0.1-1",
]
RPM = [
    "1.0~beta1-1",
    "1.0~rc1-1",
    "1.0-1",
    "1.0-1.el9",
    "1.0-1.el9_2",
    "1.0-1.el9_2.1",
    "1.0-2.el9",
    "1.0-10.el9",
    "1.0^20240101-1",
    "1.0a-1",
    "1.0.1-1",
    "1.10-1",
    "1:0.5-1",
    "2:0-0",
]
APK = [
    "1.0_alpha1-r0",
    "1.0_alpha2-r0",
    "1.0_beta-r0",
    "1.0_pre1-r0",
    "1.0_rc1-r0",
    "1.0",
    "1.0-r0",
    "1.0-r2",
    "1.0-r10",
    "1.0_git20240101-r0",
    "1.0_p1-r0",
    "1.0_p1-r1",
    "1.0a-r0",
    "1.0b-r0",
    "1.0.1-r0",
    "1.01-r0",
    "1.1-r0",
    "1.2-r0",
    "1.10-r0",
    "2-r0",
]


@pytest.mark.parametrize(("kind", "ascending"), [("deb", DEB), ("rpm", RPM), ("apk", APK)])
def test_versions_ascend(kind: str, ascending: list[str]):
    for lower, higher in itertools.combinations(ascending, 2):
        low, high = version_key(kind, lower), version_key(kind, higher)
        assert low < high, (lower, higher)
        assert not high < low, (lower, higher)
        assert low != high, (lower, higher)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("deb", "1.0", "0:1.0-0"),
        ("deb", "1.01", "1.1"),
        ("rpm", "1.0-1", "0:1.0-1"),
        ("rpm", "1.01-1", "1_1-1"),
        ("apk", "1.0a", "1.0a"),
    ],
)
def test_spellings_of_the_same_version_are_equal(kind: str, one: str, other: str):
    assert version_key(kind, one) == version_key(kind, other)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("deb", ""),
        ("deb", "a b"),
        ("deb", "x:1"),
        ("rpm", "(none):1-1"),
        ("apk", "1.0-rc1"),
        ("apk", "v1"),
        ("apk", "1.0_zeta"),
        ("pacman", "1"),
        ("deb", "1" * (MAX_VERSION + 1)),
    ],
)
def test_what_is_no_version_has_no_order(kind: str, version: str):
    with pytest.raises(ValueError):
        version_key(kind, version)


VERSIONS = st.text(alphabet="0123456789..--~^+:_abpr", min_size=1, max_size=12) | st.text(max_size=12)


@given(VERSIONS, VERSIONS, st.sampled_from(["deb", "rpm", "apk"]))
def test_any_texts_compare_or_have_no_order(one: str, other: str, kind: str):
    try:
        keys = version_key(kind, one), version_key(kind, other)
    except ValueError:
        return
    assert (keys[0] < keys[1]) + (keys[1] < keys[0]) + (keys[0] == keys[1]) == 1


def test_deb_agrees_with_dpkg():
    pairs = [(DEB[n], DEB[(n * 5 + 3) % len(DEB)]) for n in range(len(DEB))]
    for one, other in pairs:
        answer = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], timeout=10, check=False)
        assert (answer.returncode == 0) == (version_key("deb", one) < version_key("deb", other)), (one, other)


def test_deb_does_not_need_python_apt():
    script = "import sys; sys.modules['apt_pkg'] = None; from tasks.engine.inspection.version_order import version_key as key"
    script += "; assert key('deb', '1.0~rc1') < key('deb', '1.0')"
    subprocess.run([sys.executable, "-c", script], timeout=30, check=True)
