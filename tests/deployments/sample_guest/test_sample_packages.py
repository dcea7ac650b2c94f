"""The list of packages and the folder they are fetched into."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deployments.sample_guest.packages import INDEX, Wanted, control, fetch, fetched, kernel_package, wanted_packages
from tasks.engine.errors import HostUnavailable


def test_wanted_packages_have_unique_names() -> None:
    names = [package.name for package in wanted_packages()]
    assert len(names) == len(set(names)) > 20
    assert {"qemu-guest-agent", "dropbear-bin", "busybox-static"} <= set(names)


def test_wanted_keeps_its_patterns_and_every_copyright() -> None:
    package = Wanted("zlib1g", ("*/lib*.so*",))
    assert package.keeps("lib/x86_64-linux-gnu/libz.so.1")
    assert package.keeps("usr/share/doc/zlib1g/copyright")
    assert not package.keeps("usr/share/doc/zlib1g/changelog.Debian.gz")


def test_fetched_without_setup_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match="make setup") as caught:
        fetched(tmp_path)
    assert caught.value.code == "host.packages"


def test_fetched_with_a_shortened_file_is_not_trusted(packages: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(packages, tmp_path / "packages")
    next(copied.glob("zlib1g_*.deb")).write_bytes(b"!<arch>\n")
    with pytest.raises(HostUnavailable):
        fetched(copied)


def test_fetch_a_second_time_touches_nothing(packages: Path) -> None:
    before = (packages / INDEX).stat().st_mtime_ns
    assert len(fetch(packages)) == len(wanted_packages()) + 1
    assert (packages / INDEX).stat().st_mtime_ns == before


def test_kernel_package_is_not_the_metapackage(packages: Path) -> None:
    assert "Package: linux-image-6" in control(kernel_package(fetched(packages)))
