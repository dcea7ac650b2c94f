"""The libvirt description of one guest; it starts nothing (`domain` and `boot_check` do).

Format: https://libvirt.org/formatdomain.html. Built as a tree, so that no name of a user or a path can become markup, and
without any secret: user data and keys travel in the seed image.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from tasks.engine.errors import RequestRefused
from tasks.engine.guests.backing import AnyBacking
from tasks.engine.guests.hypervisor import domain_name

BootMode = Literal["bios", "uefi"]
AGENT_CHANNEL = "org.qemu.guest_agent.0"
MAX_DISKS = 24
OTHER_DEVICES = 7
"""What else takes a PCI Express port: seed, network, agent's channel, random numbers, balloon, USB and a reserve."""


@dataclass(frozen=True, kw_only=True)
class DiskSpec:
    """A qcow2 overlay and what it lies on; `backing` is None for an empty disk and for an overlay made standalone."""

    overlay: Path
    backing: AnyBacking | None
    write_bytes_per_second: int = 0


@dataclass(frozen=True, kw_only=True)
class DomainSpec:
    """Everything libvirt must know of a guest. `console` is appended to, rotated and bounded by virtlogd."""

    ecs_id: UUID
    disks: Sequence[DiskSpec]
    console: Path
    kvm: bool
    seed: Path | None = None
    title: str = ""
    memory_mib: int = 1024
    vcpus: int = 1
    boot_mode: BootMode = "bios"
    network: bool = True
    name: str = field(default="")
    nvram: Path | None = None
    firmware_on_serial: bool = False
    spare_ports: int = 0
    """How many more disks than it begins with the running guest can get."""


def domain_xml(spec: DomainSpec) -> str:
    """The domain's XML. Disks are vda, vdb ...; the seed comes behind them."""
    if not 1 <= len(spec.disks) <= MAX_DISKS:
        raise RequestRefused("disks", f"a guest has between 1 and {MAX_DISKS} disks, not {len(spec.disks)}")
    root = ET.Element("domain", type="kvm" if spec.kvm else "qemu")
    _identity(root, spec)
    _machine(root, spec)
    devices = ET.SubElement(root, "devices")
    if spec.spare_ports:
        _ports(devices, len(spec.disks) + OTHER_DEVICES + spec.spare_ports)
    for index, disk in enumerate(spec.disks):
        devices.append(_disk(disk, index=index))
    if spec.seed is not None:
        devices.append(_seed_disk(spec.seed))
    _consoles(devices, spec)
    if spec.network:
        devices.append(_network(spec.ecs_id))
    _comforts(devices)
    return ET.tostring(root, encoding="unicode")


def target_name(index: int) -> str:
    """What libvirt calls disk `index` of a guest."""
    return f"vd{chr(ord('a') + index)}"


def mac_address(ecs_id: UUID) -> str:
    """A stable address in QEMU's own range, so that a guest keeps its interface names over redefinitions."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in ecs_id.bytes[-3:])


def _identity(root: ET.Element, spec: DomainSpec) -> None:
    ET.SubElement(root, "name").text = spec.name or domain_name(spec.ecs_id)
    ET.SubElement(root, "uuid").text = str(spec.ecs_id)
    if title := " ".join("".join(char if char.isprintable() else " " for char in spec.title).split())[:120]:
        ET.SubElement(root, "title").text = title
    ET.SubElement(root, "memory", unit="MiB").text = str(spec.memory_mib)
    ET.SubElement(root, "vcpu").text = str(spec.vcpus)


def _machine(root: ET.Element, spec: DomainSpec) -> None:
    """q35 with SeaBIOS, or with OVMF where libvirt finds it by its firmware descriptors."""
    system = ET.SubElement(root, "os", {"firmware": "efi"} if spec.boot_mode == "uefi" else {})
    ET.SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
    if spec.boot_mode == "uefi":
        firmware = ET.SubElement(system, "firmware")
        ET.SubElement(firmware, "feature", enabled="no", name="secure-boot")
        if spec.nvram is not None:
            ET.SubElement(system, "nvram").text = str(spec.nvram)
    elif spec.firmware_on_serial:
        ET.SubElement(system, "bios", useserial="yes")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(root, "cpu", mode="host-passthrough" if spec.kvm else "maximum", migratable="off")
    ET.SubElement(root, "clock", offset="utc")
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        ET.SubElement(root, f"on_{event}").text = action


def _ports(devices: ET.Element, count: int) -> None:
    """q35 takes a new device at run time only in a port that is free since the start."""
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for _ in range(count):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")


def disk_xml(disk: DiskSpec, *, index: int) -> str:
    """The description of one disk, for a guest that runs already."""
    return ET.tostring(_disk(disk, index=index), encoding="unicode")


def _disk(disk: DiskSpec, *, index: int) -> ET.Element:
    """A virtio disk that stops the guest on any I/O error, so that a lost backing server damages nothing."""
    element = ET.Element("disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type="qcow2", discard="unmap", error_policy="stop", rerror_policy="stop")
    ET.SubElement(element, "source", file=str(disk.overlay))
    element.append(ET.Element("backingStore") if disk.backing is None else disk.backing.backing_store())
    ET.SubElement(element, "target", dev=target_name(index), bus="virtio")
    if disk.write_bytes_per_second:
        tune = ET.SubElement(element, "iotune")
        ET.SubElement(tune, "write_bytes_sec").text = str(disk.write_bytes_per_second)
    ET.SubElement(element, "boot", order=str(index + 1))
    return element


def _seed_disk(seed: Path) -> ET.Element:
    """A read-only virtio disk: whoever boots from virtio has its driver, while cloud kernels lack those of CD drives.

    cloud-init finds it by its label wherever it is.
    """
    element = ET.Element("disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type="raw")
    ET.SubElement(element, "source", file=str(seed))
    ET.SubElement(element, "target", dev="vdz", bus="virtio")
    ET.SubElement(element, "readonly")
    ET.SubElement(element, "serial").text = "cidata"
    return element


def _consoles(devices: ET.Element, spec: DomainSpec) -> None:
    """Serial port into the console log, guest agent, and a screen on loopback."""
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=str(spec.console), append="on")
    ET.SubElement(serial, "target", port="0")
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga")


def _network(ecs_id: UUID) -> ET.Element:
    interface = ET.Element("interface", type="user")
    ET.SubElement(interface, "mac", address=mac_address(ecs_id))
    ET.SubElement(interface, "model", type="virtio")
    return interface


def _comforts(devices: ET.Element) -> None:
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    ET.SubElement(devices, "memballoon", model="virtio")
