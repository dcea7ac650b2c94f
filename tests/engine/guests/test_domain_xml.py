"""The domain's XML: what must be in it, and that nothing a user says becomes markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tasks.engine.errors import RequestRefused
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec, domain_xml

ECS = UUID("11112222-3333-4444-5555-6666777788aa")
BASE = Backing(socket=Path("/run/a b&c.sock"), export="sha256:<x>", virtual_size=1 << 20)
DISK = DiskSpec(overlay=Path("/d/o.qcow2"), backing=BASE)
SPEC = DomainSpec(ecs_id=ECS, disks=[DISK], console=Path("/d/console.log"), kvm=False)


def described(spec: DomainSpec) -> ET.Element:
    return ET.fromstring(domain_xml(spec))


def attributes(root: ET.Element, path: str) -> dict[str, str]:
    found = root.find(path)
    assert found is not None
    return found.attrib


def test_domain_under_tcg_is_named_after_its_ecs():
    root = described(SPEC)
    assert root.get("type") == "qemu"
    assert root.findtext("name") == f"ims-{ECS}"
    assert root.findtext("uuid") == str(ECS)
    assert attributes(root, "cpu")["mode"] == "maximum"


def test_domain_under_kvm_gets_the_hosts_processor():
    root = described(replace(SPEC, kvm=True))
    assert root.get("type") == "kvm"
    assert attributes(root, "cpu")["mode"] == "host-passthrough"


def test_disk_stops_the_guest_on_errors_and_names_its_whole_chain():
    root = described(SPEC)
    driver = attributes(root, "devices/disk/driver")
    assert (driver["error_policy"], driver["rerror_policy"], driver["discard"]) == ("stop", "stop", "unmap")
    assert attributes(root, "devices/disk/backingStore/source")["name"] == "sha256:<x>"
    assert attributes(root, "devices/disk/backingStore/source/host")["socket"] == "/run/a b&c.sock"
    assert len(root.findall("devices/disk/backingStore/backingStore")) == 1


def test_standalone_disk_has_a_closed_chain():
    store = described(replace(SPEC, disks=[replace(DISK, backing=None)])).find("devices/disk/backingStore")
    assert store is not None
    assert len(store) == 0


def test_disks_are_numbered_in_boot_order():
    root = described(replace(SPEC, disks=[DISK, DISK, DISK]))
    assert [each.get("dev") for each in root.iterfind("devices/disk/target")] == ["vda", "vdb", "vdc"]
    assert [each.get("order") for each in root.iterfind("devices/disk/boot")] == ["1", "2", "3"]


@pytest.mark.parametrize("count", [0, 25])
def test_unusable_number_of_disks_is_refused(count: int):
    with pytest.raises(RequestRefused, match="between 1 and 24"):
        domain_xml(replace(SPEC, disks=[DISK] * count))


def test_title_with_markup_stays_text():
    root = described(replace(SPEC, title="a</title><devices>\n\x1b[31m&"))
    assert root.findtext("title") == "a</title><devices> [31m&"
    assert len(root.findall("devices")) == 1


def test_screen_listens_on_loopback_alone():
    assert attributes(described(SPEC), "devices/graphics")["listen"] == "127.0.0.1"


def test_network_can_be_left_out():
    assert described(SPEC).find("devices/interface") is not None
    assert described(replace(SPEC, network=False)).find("devices/interface") is None


def test_network_address_belongs_to_the_ecs():
    assert attributes(described(SPEC), "devices/interface/mac") == {"address": "52:54:00:77:88:aa"}


def test_uefi_leaves_the_firmware_to_libvirt():
    root = described(replace(SPEC, boot_mode="uefi", nvram=Path("/d/nvram.fd")))
    assert attributes(root, "os")["firmware"] == "efi"
    assert root.findtext("os/nvram") == "/d/nvram.fd"


def test_seed_is_a_read_only_disk_behind_the_others():
    root = described(replace(SPEC, seed=Path("/d/seed.iso")))
    seed = root.findall("devices/disk")[-1]
    assert seed.find("source").attrib == {"file": "/d/seed.iso"}
    assert seed.find("target").attrib == {"dev": "vdz", "bus": "virtio"}
    assert seed.find("readonly") is not None
    assert seed.find("boot") is None


def test_backing_address_is_escaped_for_qemu():
    assert BASE.address == "nbd+unix:///sha256%3A%3Cx%3E?socket=/run/a%20b%26c.sock"
