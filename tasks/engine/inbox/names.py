"""Names in the inbox bucket: `<account>/<name>`, and what lies beside an object. Names are hostile until checked here.

Beside `disk.vmdk` lie `disk.vmdk.json`, what its writer says of it, and `disk.vmdk.result.json`, what became of it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.engine.errors import RequestRefused

SIDECAR = ".json"
RESULT = ".result.json"
MAX_BYTES = 900
"""Of a whole key in UTF-8: S3's own limit is 1024, and the names beside it are longer."""

ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
ENDINGS = re.compile(r"(?:\.(?:raw|img|qcow2?|vmdk|vhdx?|vdi|zvhd2?|ova|gz|xz|zst|bz2))+$", re.IGNORECASE)
ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
MAX_NAME = 128


class Place(NamedTuple):
    """Whose folder of the inbox, and the name in it."""

    account: str
    name: str


def check_name(name: str) -> str:
    """A name inside an account's folder, folders allowed. Raises RequestRefused(inbox_key)."""
    if not name or any(part in ("", ".", "..") for part in name.split("/")):
        raise _refused(name, "is no object name")
    if not name.isprintable():  # controls, separators, direction marks, lone surrogates
        raise _refused(name, "has characters that cannot be shown")
    if len(name.encode()) > MAX_BYTES:
        raise _refused(f"{name[:40]}...", f"is longer than {MAX_BYTES} bytes")
    return name


def place_of(key: str) -> Place:
    """The account and name of an object's whole key. Raises RequestRefused(inbox_key)."""
    account, slash, name = key.partition("/")
    if not slash or not ACCOUNT.fullmatch(account):
        raise _refused(key[:80], "is in no account's folder")
    return Place(account, check_name(name))


def is_beside(name: str) -> bool:
    """Whether it is a sidecar or a result, which are never imported themselves."""
    return name.lower().endswith(SIDECAR)


def image_name(name: str) -> str:
    """What an image is called whose writer gave it no name: the file's, without its endings, within the rule for names."""
    stem = ENDINGS.sub("", name.rpartition("/")[2])
    return ILLEGAL.sub("-", stem)[:MAX_NAME].strip("-") or "image"


def _refused(shown: str, what: str) -> RequestRefused:
    return RequestRefused("inbox_key", f"{shown!r} {what}", remedy="Give inbox:NAME as it was uploaded.")
