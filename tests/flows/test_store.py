"""`ims store`: collection, verification and healing on the real store, with damage done to the objects themselves."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Service

from tasks.collecting import MARKER
from tasks.engine.blobs.chunks import chunk_key
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest, manifest_key
from tasks.engine.errors import HostUnavailable, ImsError
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.domain_xml import DiskSpec
from tasks.engine.settings import load_settings
from tasks.exports import causes_told
from tasks.resources import images_bucket

pytestmark = pytest.mark.server
MakeDisk = Callable[..., Path]


@pytest.fixture(autouse=True)
def repaired() -> Iterator[None]:
    """Put back what a test damaged, whatever became of it: all tests share the store."""
    _DAMAGED.clear()
    yield
    for key, body in _DAMAGED.items():
        images_bucket().put(key, body)


_DAMAGED: dict[str, bytes] = {}


def flip(key: str, *, at: float = 0.5) -> None:
    """Turn one bit of an object."""
    objects = images_bucket()
    body = objects.get(key, limit=1 << 30)
    _DAMAGED.setdefault(key, body)
    place = min(len(body) - 1, int(len(body) * at))
    objects.put(key, body[:place] + bytes((body[place] ^ 4,)) + body[place + 1 :])


def imported(service: Service, path: Path, name: str) -> dict[str, Any]:
    return service.ims("image", "import", str(path), "--name", name, "--format", "raw")


def manifest_of(image: dict[str, Any]) -> Manifest:
    return get_manifest(images_bucket(), ManifestDigest(image["disks"][0]["digest"]))


def chunks_of(image: dict[str, Any]) -> list[str]:
    return [chunk_key(digest) for _, digest in manifest_of(image).entries()]


def stored() -> set[str]:
    return {info.key for info in images_bucket().list("")} - {MARKER}


def harms(answer: dict[str, Any], key: str) -> set[str]:
    """Ids of what a fault harms."""
    return {harm["id"] for fault in answer["faults"] if fault["key"] == key for harm in fault["harms"]}


def served(image: dict[str, Any]) -> str:
    """Read the whole disk as a guest's QEMU does, from this host's NBD server. Returns the reader's complaint, if any.

    nbdkit 1.32 may end when a client leaves while requests are under way; the host agent starts it again.
    """
    address = f"nbd+unix:///{image['disks'][0]['digest']}?socket={load_settings().exports_socket}"
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(["nbdcopy", address, "null:"], capture_output=True, text=True, timeout=60)
        if "refused" not in done.stderr or time.monotonic() > deadline:
            return done.stderr.strip()
        time.sleep(0.5)


def test_collection_deletes_what_nothing_needs_and_nothing_else(service: Service, data_disk: MakeDisk, folder: Path) -> None:
    kept, gone = data_disk(901, mib=4), data_disk(902, mib=4)
    (folder / "both.raw").write_bytes(kept.read_bytes() + gone.read_bytes()[: 1 << 20])
    keeper = imported(service, folder / "both.raw", "gc-kept")
    image = imported(service, gone, "gc-gone")
    service.ims("image", "delete", image["id"])
    lonely = set(chunks_of(image)) - set(chunks_of(keeper))
    before = service.ims("store", "stats")
    dry = service.ims("store", "gc", "--keep-hours", "0")
    assert (dry["applied"], dry["deleted"], stored() >= lonely) == (False, 0, True)
    assert service.ims("store", "gc")["garbage"] == 0, "everything is younger than a day"
    done = service.ims("store", "gc", "--apply", "--keep-hours", "0")
    assert (done["deleted"], done["bytes_freed"], done["stopped"]) == (dry["garbage"], dry["garbage_bytes"], "")
    assert not lonely & stored()
    assert set(chunks_of(keeper)) <= stored()
    assert manifest_key(ManifestDigest(image["disks"][0]["digest"])) not in stored()
    after = service.ims("store", "stats")
    assert after["stored_bytes"] == before["stored_bytes"] - done["bytes_freed"] == after["unique_bytes"]
    out = service.ims("image", "export", keeper["id"], "--format", "raw", "--to", str(folder / "kept.raw"))
    assert out["sha256"].removeprefix("sha256:") == hashlib.sha256((folder / "both.raw").read_bytes()).hexdigest()


def test_flipped_bit_in_a_chunk_is_named_never_served_and_healed(
    service: Service, data_disk: MakeDisk, folder: Path, tmp_path: Path
) -> None:
    path = data_disk(903, mib=3)
    first, second = imported(service, path, "flip-a"), imported(service, path, "flip-b")
    key = chunks_of(first)[1]
    flip(key)
    outcome = service.run("store", "verify", "--all")
    assert outcome.status == 2
    assert harms(outcome.answer, key) == {first["id"], second["id"]}
    assert "Input/output error" in served(first)
    target = tmp_path / "never.raw"
    assert service.refused("image", "export", first["id"], "--format", "raw", "--to", str(target)) == "store.damaged"
    assert not target.exists()
    (folder / "part.raw").write_bytes(path.read_bytes()[1 << 20 : 2 << 20])
    healer = imported(service, folder / "part.raw", "flip-healer")
    assert healer["bytes_new"] > 0
    clean = service.ims("store", "verify", "--all")
    assert (clean["faults"], served(first)) == ([], "")


@pytest.mark.parametrize("what", ["chunk", "manifest"])
def test_missing_object_is_named_and_healed(service: Service, data_disk: MakeDisk, tmp_path: Path, what: str) -> None:
    path = data_disk({"chunk": 904, "manifest": 906}[what], mib=2)
    image = imported(service, path, f"lost-{what}")
    key = chunks_of(image)[0] if what == "chunk" else manifest_key(ManifestDigest(image["disks"][0]["digest"]))
    _DAMAGED[key] = images_bucket().get(key, limit=1 << 30)
    images_bucket().delete(key)
    outcome = service.run("store", "verify")
    assert (outcome.status, harms(outcome.answer, key)) == (2, {image["id"]})
    assert service.refused("image", "export", image["id"], "--format", "raw", "--to", str(tmp_path / "x")) == "store.missing"
    imported(service, path, f"lost-{what}-again")
    assert service.ims("store", "verify")["faults"] == []


@pytest.mark.parametrize("what", ["whole", "missing", "damaged"])
def test_guest_without_its_disk_is_told_what_the_store_lacks(
    service: Service, data_disk: MakeDisk, tmp_path: Path, what: str
) -> None:
    """What libvirt says of it is that a disk could not be opened."""
    image = imported(service, data_disk(907, mib=1), f"told-{what}")
    digest = image["disks"][0]["digest"]
    key = manifest_key(ManifestDigest(digest))
    if what != "whole":
        flip(key, at=0.9)
    if what == "missing":
        images_bucket().delete(key)
    backing = Backing(socket=load_settings().exports_socket, export=digest, virtual_size=1 << 20)
    with pytest.raises(ImsError) as told, causes_told([DiskSpec(overlay=tmp_path / "x", backing=backing)]):
        raise HostUnavailable("libvirt", "cannot open the disk")
    assert told.value.code == {"whole": "host.libvirt", "missing": "store.missing", "damaged": "store.damaged"}[what]


def test_flipped_bit_in_a_manifest_is_named_stops_the_collector_and_is_healed(
    service: Service, data_disk: MakeDisk, tmp_path: Path
) -> None:
    path = data_disk(905, mib=2)
    image = imported(service, path, "manifest")
    key = manifest_key(ManifestDigest(image["disks"][0]["digest"]))
    flip(key, at=0.9)
    outcome = service.run("store", "verify")
    assert (outcome.status, harms(outcome.answer, key)) == (2, {image["id"]})
    assert served(image) != ""
    assert service.refused("image", "export", image["id"], "--format", "raw", "--to", str(tmp_path / "x")) == "store.damaged"
    before = stored()
    assert service.refused("store", "gc", "--apply", "--keep-hours", "0") == "store.incomplete"
    assert stored() == before
    imported(service, path, "manifest-again")
    assert service.ims("store", "verify")["faults"] == []


def test_collector_spares_the_bucket_of_another_catalog(service: Service) -> None:
    objects = images_bucket()
    service.ims("store", "gc", "--apply")
    own = objects.get(MARKER, limit=64)
    objects.put(MARKER, b"00000000-0000-0000-0000-000000000000")
    before = stored()
    assert service.refused("store", "gc") == "store.foreign"
    assert service.refused("store", "gc", "--apply", "--keep-hours", "0") == "store.foreign"
    assert stored() == before
    service.ims("store", "gc", "--apply", "--adopt")
    assert objects.get(MARKER, limit=64) == own
