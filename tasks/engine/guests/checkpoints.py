"""Checkpoints of a running guest: from each on, a bitmap in the overlay notes what the guest changes.

Format: https://libvirt.org/formatcheckpoint.html. A bitmap is lost when QEMU ends without writing it; libvirt then tells
no size for it, which is how `dirty_bytes` knows. Which content a checkpoint stands for is the catalog's to remember.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection
from typing import Any

import libvirt
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]  # it ships no type information

from tasks.engine.guests.hypervisor import libvirt_calls

LAUNCH = "launch"
"""Made before a guest's first instruction: its disks are then what their images are."""

PREFIX = "ims-"
"""Of the checkpoints that captures make; others are somebody else's."""


def mark_name(operation_id: str) -> str:
    """The checkpoint that a capture makes."""
    return PREFIX + operation_id


def mark(domain: Any, name: str, targets: Collection[str]) -> None:
    """Begin to note changes of `targets` under `name`."""
    with libvirt_calls("marking a checkpoint"):
        domain.checkpointCreateXML(checkpoint_xml(domain, name, targets), 0)


def checkpoint_xml(domain: Any, name: str, targets: Collection[str]) -> str:
    """The description of a checkpoint of `targets`; every other disk is left out by name."""
    root = ET.Element("domaincheckpoint")
    ET.SubElement(root, "name").text = name
    disks = ET.SubElement(root, "disks")
    for target in disk_targets(domain):
        ET.SubElement(disks, "disk", name=target, checkpoint="bitmap" if target in targets else "no")
    return ET.tostring(root, encoding="unicode")


def disk_targets(domain: Any) -> list[str]:
    """Every disk of the guest, its seed among them."""
    with libvirt_calls("reading a guest's disks"):
        root: ET.Element = fromstring(domain.XMLDesc(0))
    targets = (disk.find("target") for disk in root.iterfind("devices/disk"))
    return [target.get("dev", "") for target in targets if target is not None]


def names(domain: Any) -> set[str]:
    """The checkpoints that libvirt knows of."""
    with libvirt_calls("listing checkpoints"):
        return {checkpoint.getName() for checkpoint in domain.listAllCheckpoints()}


def dirty_bytes(domain: Any, name: str) -> dict[str, int]:
    """What changed on each disk since the checkpoint, in bytes; a disk whose bitmap is missing or broken is left out."""
    if name not in names(domain):
        return {}
    flags = libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE | libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN
    with libvirt_calls("reading a checkpoint"):
        root: ET.Element = fromstring(domain.checkpointLookupByName(name).getXMLDesc(flags))
    sizes = {disk.get("name", ""): disk.get("size") for disk in root.iterfind("disks/disk")}
    return {target: int(size) for target, size in sizes.items() if size is not None}


def drop(domain: Any, unwanted: Collection[str]) -> None:
    """Forget checkpoints and their bitmaps; one whose bitmap is gone already is forgotten as well."""
    for name in unwanted:
        with libvirt_calls("dropping a checkpoint"):
            checkpoint = domain.checkpointLookupByName(name)
            try:
                checkpoint.delete(0)
            except libvirt.libvirtError:
                checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)


def forget_others(domain: Any, kept: Collection[str]) -> None:
    """Drop the checkpoints of captures that nothing builds on any more."""
    drop(domain, {name for name in names(domain) if name.startswith(PREFIX)} - set(kept))
