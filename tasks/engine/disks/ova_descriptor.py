"""The .ovf descriptor of an OVA: which disks the virtual system has, in order. The archive around it is in `ova`.

Specification: https://www.dmtf.org/standards/ovf (DSP0243). Namespaces are not compared: versions 1 and 2 differ in nothing
that is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]  # it ships no type information
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # as above

from tasks.engine.disks.formats import DiskFormat
from tasks.engine.errors import DiskRefused

MAX_DISKS = 4
DISK_DRIVE = "17"
_UNITS = re.compile(r"byte(?:\s*\*\s*(2|10)\s*\^\s*(\d{1,2}))?")
_LEGACY_UNITS = {"KiloBytes": 1 << 10, "MegaBytes": 1 << 20, "GigaBytes": 1 << 30}
_HOST_RESOURCE = re.compile(r"(?:ovf:)?/{1,2}disk/(.+)")
_FORMATS = (
    ("vmdk", DiskFormat.VMDK),
    ("qcow", DiskFormat.QCOW2),
    ("vhdx", DiskFormat.VHDX),
    ("vhd", DiskFormat.VHD),
    ("linkid=137171", DiskFormat.VHD),
    ("vdi", DiskFormat.VDI),
)


class DescribedDisk(NamedTuple):
    """One disk as the descriptor has it; `size` is the file's, `format` None where the address says nothing known."""

    href: str
    capacity: int
    compression: str
    format: DiskFormat | None
    size: int | None


def described_disks(xml: bytes) -> list[DescribedDisk]:
    """The disks of the only virtual system, in the order of its drives."""
    root = _root(xml)
    files = {_need(file, "id"): file for file in _path(root, "References", "File")}
    disks = {_need(disk, "diskId"): disk for disk in _path(root, "DiskSection", "Disk")}
    if not 1 <= len(disks) <= MAX_DISKS:
        raise DiskRefused("ova_disks", f"the package has {len(disks)} disks; 1 to {MAX_DISKS} are accepted")
    described = [_described(disks[key], files) for key in _in_drive_order(root, list(disks))]
    if len({disk.href for disk in described}) < len(described):
        raise _bad("two disks use one file")
    return described


def _root(xml: bytes) -> Element:
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DiskRefused("ova_xml", "the descriptor declares a document type or entities", remedy="Remove them.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise _bad(f"it is not well-formed: {error}") from error
    if _local(root.tag) != "Envelope":
        raise _bad("it is no OVF envelope")
    if any(_local(child.tag) == "VirtualSystemCollection" for child in root):
        raise DiskRefused("ova_collection", "the package holds several systems", remedy="Export one system at a time.")
    return root


def _described(disk: Element, files: dict[str, Element]) -> DescribedDisk:
    attributes = _attributes(disk)
    if "parentRef" in attributes:
        raise DiskRefused("parent", "a disk of the package needs a parent disk", remedy="Export it without snapshots.")
    file = files.get(attributes.get("fileRef", ""))
    if file is None:
        raise _bad("a disk refers to no file", remedy="Remove empty disks before you export.")
    about = _attributes(file)
    if "chunkSize" in about:
        raise DiskRefused("ova_chunked", "a disk is cut into several files", remedy="Export it in one file.")
    return DescribedDisk(
        href=_need(file, "href"),
        capacity=_number(_need(disk, "capacity")) * _unit(attributes.get("capacityAllocationUnits", "byte")),
        compression=about.get("compression", "identity"),
        format=_format(attributes.get("format", "")),
        size=_number(about["size"]) if "size" in about else None,
    )


def _in_drive_order(root: Element, disk_ids: list[str]) -> list[str]:
    """Disks as the hardware section attaches them, by controller and address; those it does not name come last."""
    drives = []
    for item in root.iter():
        about = {_local(child.tag): (child.text or "").strip() for child in item}
        match = _HOST_RESOURCE.fullmatch(about.get("HostResource", ""))
        if about.get("ResourceType") == DISK_DRIVE and match:
            drives.append((_order(about.get("Parent")), _order(about.get("AddressOnParent")), match[1]))
    drives.sort(key=lambda drive: drive[:2])
    attached = dict.fromkeys(disk for _, _, disk in drives if disk in disk_ids)
    return list(attached | dict.fromkeys(disk_ids))


def _order(number: str | None) -> int:
    return int(number) if number and re.fullmatch(r"[0-9]{1,9}", number) else 0


def _format(address: str) -> DiskFormat | None:
    return next((format_ for part, format_ in _FORMATS if part in address.lower()), None)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise _bad(f"{text[:40]!r} is no number of bytes")
    return int(text)


def _unit(text: str) -> int:
    if text in _LEGACY_UNITS:
        return _LEGACY_UNITS[text]
    match = _UNITS.fullmatch(text.strip())
    if not match:
        raise _bad(f"{text[:40]!r} is no unit of capacity")
    return int(match[1]) ** int(match[2]) if match[1] else 1


def _path(root: Element, section: str, name: str) -> Iterator[Element]:
    for child in root:
        if _local(child.tag) == section:
            yield from (element for element in child if _local(element.tag) == name)


def _attributes(element: Element) -> dict[str, str]:
    return {_local(name): value for name, value in element.attrib.items()}


def _need(element: Element, name: str) -> str:
    value = _attributes(element).get(name)
    if not value:
        raise _bad(f"{_local(element.tag)} has no {name}")
    return value


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _bad(what: str, *, remedy: str = "Export the system again.") -> DiskRefused:
    return DiskRefused("ova_descriptor", f"the descriptor cannot be used: {what}", remedy=remedy)
