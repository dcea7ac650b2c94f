"""Where a guest's base disk is served from: an NBD export on a unix socket, or a local raw file.

It opens nothing: `overlay` puts a qcow2 file on top, `domain_xml` names it to libvirt. The server of the exports is elsewhere.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True, kw_only=True)
class Backing:
    """The NBD export `export` on unix socket `socket`; QEMU's user must be able to enter its folder and connect."""

    socket: Path
    export: str
    virtual_size: int

    @property
    def address(self) -> str:
        """What qemu-img writes into the overlay's header as the backing file."""
        return f"nbd+unix:///{quote(self.export, safe='')}?socket={quote(str(self.socket))}"

    def backing_store(self) -> ET.Element:
        """libvirt's <backingStore> for this base: explicit and closed, so that nothing is ever probed."""
        store = ET.Element("backingStore", type="network")
        ET.SubElement(store, "format", type="raw")
        source = ET.SubElement(store, "source", protocol="nbd", name=self.export)
        ET.SubElement(source, "host", transport="unix", socket=str(self.socket))
        ET.SubElement(store, "backingStore")
        return store


@dataclass(frozen=True, kw_only=True)
class FileBacking:
    """A raw file on this host; QEMU's user must be able to read it."""

    path: Path
    virtual_size: int

    @property
    def address(self) -> str:
        return str(self.path)

    def backing_store(self) -> ET.Element:
        store = ET.Element("backingStore", type="file")
        ET.SubElement(store, "format", type="raw")
        ET.SubElement(store, "source", file=str(self.path))
        ET.SubElement(store, "backingStore")
        return store


AnyBacking = Backing | FileBacking
