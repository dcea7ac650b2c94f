"""The text inside a VMDK that says what the disk is made of: one sparse extent, this file, no parent. Numbers are in `vmdk`.

QEMU finds keys by searching the text, so whatever a search could find counts, in a comment too.
"""

from __future__ import annotations

import re

from tasks.engine.disks import c_vmdk as c
from tasks.engine.disks.codes import refusal

_EXTENT = re.compile(r'(RW|RDONLY|NOACCESS)\s+(\d{1,18})\s+([A-Z0-9]+)(?:\s+"([^"]*)")?(?:\s+.*)?', re.ASCII)
_SETTING = re.compile(r"([A-Za-z_][\w.:]*)\s*=\s*(.*)", re.ASCII)
_CONTENT_ID = re.compile(rb"[0-9a-fA-F]")
_PROBE = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\r?\n)*version=[1-9]\r?\n", re.IGNORECASE)


def looks_like_descriptor(text: bytes) -> bool:
    """Whether a file that begins with `text` is a VMDK descriptor to QEMU or VMware."""
    return text.startswith(b"# Disk DescriptorFile") or _PROBE.match(text) is not None


def check_descriptor(data: bytes) -> tuple[str, int]:
    """The createType and the sectors of the one extent. `data` is the descriptor and all that QEMU reads with it."""
    if b"parentfilenamehint" in data.lower():
        raise refusal("parent", "the VMDK descriptor names a parent disk")
    text = data.split(b"\0", 1)[0]
    settings, extents = _parse(text)
    if settings.get("parentcid", c.NO_PARENT_CID).lower() != c.NO_PARENT_CID:
        raise refusal("parent", "the VMDK descriptor has the content ID of a parent disk")
    _check_content_ids(text)
    create_type = settings.get("createtype", "")
    if create_type not in c.CREATE_TYPES:
        raise refusal("vmdk_type", f"VMDK type {create_type[:40]!r} is not a single sparse file")
    return create_type, _sectors(extents)


def _check_content_ids(text: bytes) -> None:
    """QEMU reads the number one character behind the first `parentCID`, and behind a `CID` before it."""
    before, _, parent = text.partition(b"parentCID")
    own = before.partition(b"CID")[2] if b"CID" in before else b"=0"
    if not _CONTENT_ID.match(parent[1:]) or not _CONTENT_ID.match(own[1:]):
        raise refusal("descriptor", "the VMDK descriptor's content IDs cannot be read")


def _parse(text: bytes) -> tuple[dict[str, str], list[re.Match[str]]]:
    """Settings by lower-case key and the extent lines; any other line is refused."""
    settings: dict[str, str] = {}
    extents: list[re.Match[str]] = []
    for line in text.decode("utf-8", "surrogateescape").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if extent := _EXTENT.fullmatch(stripped):
            extents.append(extent)
        elif setting := _SETTING.fullmatch(stripped):
            _remember(settings, setting)
        else:
            raise refusal("descriptor", f"the VMDK descriptor has a line that means nothing: {stripped[:60]!r}")
    return settings, extents


def _remember(settings: dict[str, str], setting: re.Match[str]) -> None:
    key = setting[1].lower()
    if key in settings and not key.startswith("ddb."):
        raise refusal("descriptor", f"the VMDK descriptor says {setting[1][:40]!r} twice")
    settings[key] = setting[2].strip().removeprefix('"').removesuffix('"')


def _sectors(extents: list[re.Match[str]]) -> int:
    if len(extents) != 1:
        raise refusal("vmdk_type", f"the VMDK is made of {len(extents)} extents instead of one")
    access, sectors, kind, name = extents[0].groups()
    if kind != "SPARSE" or access == "NOACCESS":
        raise refusal("vmdk_type", f"VMDK extents of kind {access} {kind[:20]} are not accepted")
    if "/" in (name or "") or "\\" in (name or ""):
        raise refusal("descriptor", "the VMDK descriptor's extent name is a path")
    return int(sectors)
