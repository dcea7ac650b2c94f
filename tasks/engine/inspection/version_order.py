"""In what order the versions of deb, rpm and apk packages come: a key for each, to be compared within one kind only.

deb is python-debian's comparison in pure Python, which does not need python-apt. rpm follows rpmio/rpmvercmp.cc of
https://github.com/rpm-software-management/rpm and apk src/version.c of https://gitlab.alpinelinux.org/alpine/apk-tools:
both split a version into pieces whose sorts have an order, in which the version's end has a place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from debian.debian_support import NativeVersion

Key = Any
"""Compares with the keys of the same kind."""
MAX_VERSION = 256

_RPM_PIECE = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")
_RPM_END = (1,)
_APK = re.compile(r"([0-9]+(?:\.[0-9]+)*)([a-z]?)((?:_[a-z]+[0-9]*)*)(?:~[0-9a-f]+)?(?:-r([0-9]+))?")
_APK_SUFFIX = re.compile(r"_([a-z]+)([0-9]*)")
_APK_BEFORE = ("alpha", "beta", "pre", "rc")
_APK_AFTER = ("cvs", "svn", "git", "hg", "p")
_APK_END = (1,)


def version_key(kind: str, version: str) -> Key:
    """Raises ValueError for what is no version of the kind, or a kind without an order."""
    if kind not in _KEYS or len(version) > MAX_VERSION:
        raise ValueError(f"no order for {version[:40]!r} of {kind[:40]!r}")
    return _KEYS[kind](version)


def _rpm_key(version: str) -> Key:
    """[epoch:]version[-release]; no epoch is 0, and no release is before every release."""
    epoch, colon, rest = version.rpartition(":")
    upstream, _, release = rest.partition("-")
    return int(epoch) if colon else 0, _rpm_part(upstream), _rpm_part(release)


def _rpm_part(text: str) -> tuple[tuple[object, ...], ...]:
    """~ is before the end, ^ after it, then letters, then numbers; everything else only separates."""
    return *(_rpm_piece(piece) for piece in _RPM_PIECE.findall(text)), _RPM_END


def _rpm_piece(piece: str) -> tuple[object, ...]:
    if piece in "~^":
        return (0,) if piece == "~" else (2,)
    return (4, int(piece)) if piece.isdigit() else (3, piece)


def _apk_key(version: str) -> Key:
    """1.2.3a_rc1-r4: `_APK_BEFORE` is before the end; after it come -r, a suffix's number, `_APK_AFTER`, a letter, a number."""
    found = _APK.fullmatch(version)
    if not found:
        raise ValueError(f"no apk version: {version!r}")
    numbers, letter, suffixes, revision = found.groups()
    return tuple(_apk_pieces(numbers.split("."), letter, _APK_SUFFIX.findall(suffixes), revision))


def _apk_pieces(
    numbers: list[str], letter: str, suffixes: list[tuple[str, str]], revision: str | None
) -> Iterator[tuple[object, ...]]:
    yield 6, int(numbers[0]), ""
    for number in numbers[1:]:
        yield (6, -1, number) if number.startswith("0") else (6, int(number), "")  # apk compares as text after a leading zero
    if letter:
        yield 5, letter
    for name, number in suffixes:
        yield (0, _APK_BEFORE.index(name)) if name in _APK_BEFORE else (4, _APK_AFTER.index(name))
        if number:
            yield 3, int(number)
    if revision is not None:
        yield 2, int(revision)
    yield _APK_END


_KEYS: dict[str, Callable[[str], Key]] = {"deb": NativeVersion, "rpm": _rpm_key, "apk": _apk_key}
