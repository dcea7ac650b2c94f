"""What a guest's password files give away: passwords that are set, that everybody knows, or that are not there at all.

Pure but for the guessing, which `guessing` does. A finding names the account and never the hash or the password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tasks.engine.inspection.c_scan import DEFAULT_PASSWORD, NO_PASSWORD, PASSWORD, Rule
from tasks.engine.inspection.c_secrets import MAX_ACCOUNTS, NO_LOGIN, PASSWD, PASSWORD_FILES, SHADOW
from tasks.engine.inspection.content import Finding
from tasks.engine.inspection.facts import clean
from tasks.engine.inspection.secrets import finding

IsWellKnown = Callable[[str, str], bool]
"""Whether a hash is of a password that everybody knows; the second is the user's name."""

_GROUPS = ("/etc/gshadow", "/etc/gshadow-")
_HASH = re.compile(r"\$[^:]{8,}|_[./0-9A-Za-z]{19}|[./0-9A-Za-z]{13}")
"""Anything else cannot be the hash of a password, so that nobody logs in with one."""
_SHELL_FIELD = 6
_MAX_NAME = 64


@dataclass(frozen=True)
class Row:
    """A line of a password file: a name, and its second field."""

    name: str
    secret: str
    fields: tuple[str, ...]


def password_findings(files: Mapping[str, bytes], is_well_known: IsWellKnown) -> list[Finding]:
    """The findings in password files by path; a path that is none of them is left alone."""
    found = [_of_row(path, row, is_well_known) for path in PASSWORD_FILES for row in _rows(files.get(path, b""))]
    return [each for each in found if each] + list(_without_password(files))


def surplus(files: Mapping[str, bytes]) -> list[str]:
    """Files with more lines than are looked at."""
    return [path for path in PASSWORD_FILES if len(files.get(path, b"").splitlines()) > MAX_ACCOUNTS]


def _of_row(path: str, row: Row, is_well_known: IsWellKnown) -> Finding | None:
    if not _HASH.fullmatch(row.secret):
        return None
    if path in _GROUPS:
        return _named(PASSWORD, path, row, "the group {} has a password")
    if is_well_known(row.secret, row.name):
        return _named(DEFAULT_PASSWORD, path, row, "the password of {} is one that everybody tries first")
    return _named(PASSWORD, path, row, "{} has a password")


def _without_password(files: Mapping[str, bytes]) -> Iterator[Finding]:
    accounts = [row for row in _rows(files.get(PASSWD, b"")) if _can_log_in(row)]
    names = {row.name for row in accounts}
    for path, rows in ((PASSWD, accounts), (SHADOW, _rows(files.get(SHADOW, b"")))):
        for row in rows:
            if not row.secret and row.name in names:
                yield _named(NO_PASSWORD, path, row, "{} logs in without a password")


def _can_log_in(account: Row) -> bool:
    """An account without a shell has /bin/sh."""
    shell = account.fields[_SHELL_FIELD].strip() if len(account.fields) > _SHELL_FIELD else ""
    return shell.rpartition("/")[2] not in NO_LOGIN


def _rows(data: bytes) -> Iterator[Row]:
    for line in data.split(b"\n", MAX_ACCOUNTS)[:MAX_ACCOUNTS]:
        fields = line.rstrip(b"\r").decode(errors="surrogateescape").split(":")
        if len(fields) > 1 and fields[0] and not fields[0].startswith(("#", "+", "-")):
            yield Row(fields[0], fields[1], tuple(fields))


def _named(rule: Rule, path: str, row: Row, detail: str) -> Finding:
    return finding(rule, path, detail.format(clean(row.name, limit=_MAX_NAME)))
