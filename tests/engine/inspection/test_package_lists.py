"""The package databases of dpkg, apk and rpm, as they are and as a hostile disk has them."""

from __future__ import annotations

import time

import pytest

from tasks.engine.inspection import package_lists
from tasks.engine.inspection.content import Package
from tasks.engine.inspection.package_lists import is_database, packages_in, rpm_packages

STATUS = b"""Package: libssl3
Status: install ok installed
Source: openssl (3.0.11-1)
Version: 3.0.11-1~deb12u2
Architecture: amd64
Description: a library
 Package: not-a-field
 .

Package: gone
Status: deinstall ok config-files
Version: 1

Package: held
Status: hold ok installed
Source: hold
Version: 1:2-3+b1\r
Architecture: all
"""
APK = b"C:Q1x=\nP:libcrypto3\nV:3.1.4-r1\nA:x86_64\no:openssl\nF:lib\n\nP:musl\nV:1.2-r0\nA:x86_64\no:musl\n\nP:nameless\n"
LIBSSL = Package(name="libssl3", version="3.0.11-1~deb12u2", architecture="amd64", source="openssl", source_version="3.0.11-1")
HELD = Package(name="held", version="1:2-3+b1", architecture="all", source="hold")


def test_dpkg_lists_what_is_installed_with_its_source():
    assert packages_in({"/var/lib/dpkg/status": STATUS, "/etc/x": STATUS}) == [HELD, LIBSSL]


def test_dpkg_of_an_image_without_dpkg_itself_has_no_status():
    stanza = b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n"
    files = {"/var/lib/dpkg/status.d/tzdata": stanza, "/var/lib/dpkg/status.d/tzdata.md5sums": stanza}
    assert packages_in(files) == [Package(name="tzdata", version="2024a", architecture="all")]


def test_apk_lists_its_packages_with_their_origin():
    expected = [
        Package(name="libcrypto3", version="3.1.4-r1", architecture="x86_64", kind="apk", source="openssl"),
        Package(name="musl", version="1.2-r0", architecture="x86_64", kind="apk"),
    ]
    assert packages_in({"/lib/apk/db/installed": APK}) == packages_in({"/usr/lib/apk/db/installed": APK}) == expected


def test_rpm_has_an_epoch_where_there_is_one_and_no_signing_keys():
    base = {"app2_name": "bash", "app2_version": "5.1", "app2_release": "6.el9", "app2_arch": "x86_64", "app2_epoch": 0}
    source = {"app2_name": "vim", "app2_epoch": 2, "app2_source_package": "vim-8.2-1.el9.src.rpm"}
    found = rpm_packages([base, base, base | source, {"app2_name": "gpg-pubkey", "app2_version": "1"}, {"app2_name": ""}])
    assert found == [
        Package(name="bash", version="5.1-6.el9", architecture="x86_64", kind="rpm"),
        Package(name="vim", version="2:5.1-6.el9", architecture="x86_64", kind="rpm", source="vim", source_version="8.2-1.el9"),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\xff\x00" * 999, b":\n:\n", b"Package: x\n" * 9, b"Package:\nVersion:\nStatus: installed\n"]
)
def test_junk_lists_nothing(data: bytes):
    assert packages_in({"/var/lib/dpkg/status": data}) == packages_in({"/lib/apk/db/installed": data}) == []


def test_hostile_fields_are_short_clean_text_soon():
    started = time.process_time()
    stanza = b"Package: \x1b[2J" + b"p" * 9_000 + b"\nVersion: 1\nStatus: installed\nSource: " + b"s (" * 300_000 + b"\n"
    (found,) = packages_in({"/var/lib/dpkg/status": stanza})
    assert found.name.isprintable()
    assert len(found.name) + len(found.source) <= 256
    assert time.process_time() - started < 1


def test_list_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(package_lists, "MAX_PACKAGES", 5)
    data = b"".join(b"Package: p%d\nVersion: 1\nStatus: install ok installed\n\n" % number for number in range(100))
    assert len(packages_in({"/var/lib/dpkg/status": data})) == 6


def test_databases_are_known_by_their_path():
    assert is_database("/var/lib/dpkg/status")
    assert not is_database("/var/lib/dpkg/status-old")
