"""The packages that a guest's package manager says are installed: pure parsing of its database, or of what libguestfs lists.

The database is the guest's word: what a package really put on the disk is not compared. Lists are bounded by `content`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from tasks.engine.inspection.c_scan import APK_INSTALLED, DPKG_STATUS, DPKG_STATUS_FOLDER
from tasks.engine.inspection.content import MAX_PACKAGES, Package
from tasks.engine.inspection.facts import clean

_FIELD_BYTES = 1024
_SOURCE = re.compile(r"([^\s()]{1,128})(?: {1,4}\(([^\s()]{1,128})\))?")
_KEY_PACKAGE = "gpg-pubkey"
"""A signing key that rpm keeps among its packages."""


def is_database(path: str) -> bool:
    """Whether the file is one that `packages_in` reads, which it must have as a whole."""
    checksums = path.endswith(".md5sums")
    return path == DPKG_STATUS or path in APK_INSTALLED or (path.startswith(DPKG_STATUS_FOLDER) and not checksums)


def packages_in(files: Mapping[str, bytes]) -> list[Package]:
    """What the databases among the files list, sorted, each once, and no more than MAX_PACKAGES + 1 of them."""
    return _bounded(each for path, data in files.items() if is_database(path) for each in _listed(path, data))


def rpm_packages(applications: Iterable[Mapping[str, Any]]) -> list[Package]:
    """The same of what libguestfs's inspect_list_applications2 tells of a system with rpm."""
    return _bounded(_rpm(each) for each in applications if each.get("app2_name") not in ("", None, _KEY_PACKAGE))


def _bounded(packages: Iterable[Package]) -> list[Package]:
    found = set(islice(packages, MAX_PACKAGES + 1))
    return sorted(found, key=lambda each: (each.name, each.version, each.architecture, each.kind))


def _listed(path: str, data: bytes) -> Iterator[Package]:
    if path in APK_INSTALLED:
        return (_apk(each) for each in _stanzas(data) if each.get("P") and each.get("V"))
    own_files = path != DPKG_STATUS  # of an image without dpkg itself: they have no Status
    return (_deb(each) for each in _stanzas(data) if _is_installed(each, unless_said=own_files))


def _stanzas(data: bytes) -> Iterator[dict[str, str]]:
    """Stanzas of `Name: value` lines; continued lines are left out, and of a field that is there twice the first counts."""
    fields: dict[str, str] = {}
    for line in (*data.splitlines(), b""):
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[:1].isspace():
            name, _, value = line[:_FIELD_BYTES].decode(errors="replace").partition(":")
            fields.setdefault(name, value.strip())


def _is_installed(stanza: Mapping[str, str], *, unless_said: bool) -> bool:
    words = stanza.get("Status", "").split()
    installed = words[-1] == "installed" if words else unless_said
    return bool(installed and stanza.get("Package") and stanza.get("Version"))


def _deb(stanza: Mapping[str, str]) -> Package:
    source = _SOURCE.match(stanza.get("Source", ""))
    return Package(
        name=clean(stanza["Package"]),
        version=clean(stanza["Version"]),
        architecture=clean(stanza.get("Architecture")),
        kind="deb",
        source=clean(source[1]) if source else "",
        source_version=clean(source[2]) if source else "",
    )


def _apk(stanza: Mapping[str, str]) -> Package:
    origin = clean(stanza.get("o"))
    return Package(
        name=clean(stanza["P"]),
        version=clean(stanza["V"]),
        architecture=clean(stanza.get("A")),
        kind="apk",
        source=origin if origin != clean(stanza["P"]) else "",
    )


def _rpm(application: Mapping[str, Any]) -> Package:
    """The version is `epoch:version-release`, without an epoch of 0; the source's too, as far as its file's name has them."""
    text = {name: clean(application.get(f"app2_{name}")) for name in ("name", "version", "release", "arch", "source_package")}
    epoch = application.get("app2_epoch") or 0
    source = text["source_package"].removesuffix(".rpm").removesuffix(".src").rsplit("-", 2)
    return Package(
        name=text["name"],
        version=clean(f"{epoch}:" * bool(epoch) + "-".join(filter(None, (text["version"], text["release"])))),
        architecture=text["arch"],
        kind="rpm",
        source=source[0] if len(source) == 3 else "",
        source_version="-".join(source[1:]) if len(source) == 3 else "",
    )
