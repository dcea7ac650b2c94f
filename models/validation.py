"""Rules for the values people type: names, descriptions, tags, properties, checksums.

Each check returns the value or raises FieldInvalid.
What an image *file* may contain is `tasks.engine.disks`; limits per account are `models.quotas`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from models.exceptions import FieldInvalid, NameInvalid

NAME = re.compile(r"[A-Za-z0-9._-](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9._-])?")
ACCOUNT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})")
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
PROPERTY_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
CATEGORY = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
VERSION_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,31})")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

MAX_DESCRIPTION = 1024
MAX_SOURCE = 2048
MAX_TAGS = 50
MAX_TAG = 64
MAX_PROPERTIES = 128
MAX_PROPERTY = 255
MAX_PROSE = 64 << 10
MAX_CATEGORIES = 5
MAX_LOGO = 64 << 10
MAX_LOGO_PIXELS = 512


def check_name(name: str, *, field: str = "name") -> str:
    """The name of an image or ECS: 1-128 letters, digits, space . - _ with no space at the ends."""
    if not NAME.fullmatch(name):
        raise NameInvalid(field, "1 to 128 letters, digits, spaces, '.', '-' or '_', with no space at the ends")
    return name


def check_account_name(name: str) -> str:
    """An account's name is also a folder in the inbox bucket, so it is stricter: lower case, digits and inner hyphens."""
    if not ACCOUNT_NAME.fullmatch(name):
        raise NameInvalid("account", "1 to 63 lower case letters, digits or '-', with no '-' at the ends")
    return name


def check_host_name(name: str) -> str:
    """A host's name is part of its deployments' names, which are part of an address."""
    if not HOST_NAME.fullmatch(name):
        raise NameInvalid("host", "1 to 63 letters, digits, '.', '-' or '_', a letter or digit first")
    return name


def check_text(value: str, *, field: str, limit: int) -> str:
    """Free text of one line, safe to print and to show in a page."""
    if len(value) > limit:
        raise FieldInvalid(field, f"at most {limit} characters")
    if UNPRINTABLE.search(value) or "<" in value or ">" in value:
        raise FieldInvalid(field, "no control characters, '<' or '>'")
    return value


def check_tags(tags: Sequence[str]) -> list[str]:
    """Tags without repeats, in the order given."""
    unique = list(dict.fromkeys(tags))
    if len(unique) > MAX_TAGS:
        raise FieldInvalid("tags", f"at most {MAX_TAGS} tags")
    for tag in unique:
        if not tag.strip():
            raise FieldInvalid("tags", "a tag may not be empty")
        check_text(tag, field="tags", limit=MAX_TAG)
    return unique


def check_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Free properties of an image: key and one line of text."""
    if len(properties) > MAX_PROPERTIES:
        raise FieldInvalid("properties", f"at most {MAX_PROPERTIES} properties")
    for key, value in properties.items():
        if not PROPERTY_KEY.fullmatch(key):
            raise FieldInvalid("properties", f"key {key!r}: 1 to 64 letters, digits, '_', '.', ':' or '-'")
        check_text(value, field="properties", limit=MAX_PROPERTY)
    return dict(properties)


def check_checksum(checksum: str | None) -> str | None:
    """`sha256:` and 64 lower case hexadecimal digits."""
    if checksum is not None and not CHECKSUM.fullmatch(checksum):
        raise FieldInvalid("checksum", "sha256: followed by 64 lower case hexadecimal digits")
    return checksum


def check_prose(value: str, *, field: str, limit: int = MAX_PROSE) -> str:
    """Text of several lines; whoever shows it in a page does so as plain text."""
    if len(value) > limit:
        raise FieldInvalid(field, f"at most {limit} characters")
    if CONTROL.search(value):
        raise FieldInvalid(field, "no control characters but line ends and tabs")
    return value


def check_given(value: str, *, field: str) -> str:
    """Text that says something."""
    if not value.strip():
        raise FieldInvalid(field, "it may not be empty")
    return value


def check_version_name(name: str) -> str:
    if not VERSION_NAME.fullmatch(name):
        raise NameInvalid("version", "1 to 32 letters, digits, '.', '_', '+' or '-', a letter or digit first")
    return name


def check_categories(categories: Sequence[str]) -> list[str]:
    """Categories without repeats, in alphabetical order."""
    unique = sorted(set(categories))
    if not 1 <= len(unique) <= MAX_CATEGORIES:
        raise FieldInvalid("categories", f"1 to {MAX_CATEGORIES} categories")
    if wrong := [category for category in unique if not CATEGORY.fullmatch(category)]:
        raise FieldInvalid("categories", f"{wrong[0]!r}: 1 to 32 lower case letters, digits or inner hyphens")
    return unique


def check_logo(png: bytes | None) -> bytes | None:
    """A small PNG, by its signature and the sizes in its first chunk; a browser decodes the rest."""
    if png is None:
        return None
    if len(png) > MAX_LOGO or png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR":
        raise FieldInvalid("logo", f"a PNG of at most {MAX_LOGO} bytes")
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    if not (0 < width <= MAX_LOGO_PIXELS and 0 < height <= MAX_LOGO_PIXELS):
        raise FieldInvalid("logo", f"at most {MAX_LOGO_PIXELS} pixels in either direction")
    return png


def check_at_least(value: int, *, field: str, minimum: int) -> int:
    if value < minimum:
        raise FieldInvalid(field, f"at least {minimum}")
    return value


def storable(message: str) -> str:
    """Any text as one that both databases take: an error message may quote hostile bytes."""
    return message.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
