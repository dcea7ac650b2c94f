"""Captures of a real ECS: running, writing all the while, stopped, whole; and what is launched from them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Service
from guest_shell import file_in, has_job, is_thawed, repair, shell, spawn, write_root

from tasks.disks import stored_disk
from tasks.engine.blobs.manifest import ManifestDigest

pytestmark = pytest.mark.guest

PLAIN = ("--no-generalize", "--verify", "none")
KEY = "/etc/ssh/ssh_host_ed25519_key"
WRITER = """
i=0
while :; do
    i=$((i+1))
    echo "$i $(echo $i | sha256sum | cut -c1-64)" | dd of=/var/lib/records oflag=append conv=notrunc,fsync 2>/dev/null
    echo $i >/run/acknowledged
done
"""
"""Appends numbered, checksummed records, each synced before the next; /run is no part of the disk."""


@pytest.fixture(scope="module")
def ecs(service: Service, sample_image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A running ECS with an empty data disk."""
    made = service.ims("ecs", "launch", sample_image["id"], "--name", "source", "--flavor", "tiny", "--data-disk", "1")
    yield made
    service.ims("ecs", "delete", made["id"])


def capture(service: Service, ecs: dict[str, Any], name: str, *options: str) -> dict[str, Any]:
    """An image of the ECS, which runs on unlocked, thawed and without a backup job."""
    image = service.ims("ecs", "capture", ecs["id"], "--name", name, *options)
    assert image["state"] == "active"
    assert service.ims("ecs", "show", ecs["id"])["locked_by"] is None
    return image


def digests(image: dict[str, Any]) -> list[str]:
    return [disk["digest"] for disk in image["disks"]]


def test_whole_ecs_is_captured_generalised_and_launched_twice(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    """One capture serves the claims that cost a boot each: report, identity, proof, and that launch restores all disks."""
    shell(ecs["id"], "echo on-vdb | dd of=/dev/vdb bs=1M seek=5 conv=notrunc 2>/dev/null; logger secret-of-the-log; sync")
    own = shell(ecs["id"], f"cat /etc/machine-id {KEY}.pub")
    image = capture(service, ecs, "golden", "--whole")
    assert (image["consistency"], image["generalized"], image["boot_proof"]) == ("filesystem", True, "agent")
    assert (image["source_ecs_id"], image["parent_image_id"]) == (ecs["id"], ecs["image_id"])
    assert [disk["kind"] for disk in image["disks"]] == ["system", "data"]
    removed = service.ims("image", "show", image["id"])["capture"]["removed"]
    assert {"ssh-hostkeys", "machine-id", "logfiles"} <= set(removed)
    assert KEY in [path for path, _ in removed["ssh-hostkeys"]]

    identities = [own]
    for name in ("twin-1", "twin-2"):
        twin = service.ims("ecs", "launch", image["id"], "--name", name, "--flavor", "tiny")
        identities.append(shell(twin["id"], f"cat /etc/machine-id {KEY}.pub"))
        assert shell(twin["id"], "hostname; dd if=/dev/vdb bs=1M skip=5 count=1 2>/dev/null | head -c 6") == f"{name}\non-vdb"
        service.ims("ecs", "delete", twin["id"])
    machine_ids, keys = zip(*(identity.splitlines() for identity in identities), strict=True)
    assert len(set(machine_ids)) == len({key.split()[1] for key in keys}) == 3
    assert shell(ecs["id"], f"cat /etc/machine-id {KEY}.pub") == own


def test_capture_that_is_not_generalised_keeps_the_identity(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    image = capture(service, ecs, "same-identity", *PLAIN)
    root = write_root(digests(image)[0], folder / "same.root")
    assert file_in(root, "/etc/machine-id") == shell(ecs["id"], "cat /etc/machine-id")
    assert file_in(root, f"{KEY}.pub") == shell(ecs["id"], f"cat {KEY}.pub")
    assert (image["generalized"], image["boot_proof"]) == (False, "unchecked")
    root.unlink()


def test_second_capture_sends_little_more_than_what_changed(service: Service, ecs: dict[str, Any]) -> None:
    capture(service, ecs, "before", *PLAIN)
    shell(ecs["id"], "dd if=/dev/urandom of=/var/lib/blob bs=1M count=8 conv=fsync 2>/dev/null")
    image = capture(service, ecs, "after", *PLAIN)
    (disk,) = service.ims("image", "show", image["id"])["capture"]["disks"]
    assert disk["read"] == "changes"
    assert disk["since"].startswith("ims-")
    assert 8 << 20 <= image["bytes_new"] <= 12 << 20
    assert image["bytes_stored"] > 20_000_000


def test_twenty_captures_of_a_writing_guest_hold_a_clean_prefix(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    """Whatever was acknowledged before a capture began is in its image, in order, and no record is torn."""
    shell(ecs["id"], f"cat >/run/writer <<'END'\n{WRITER}END\nrm -f /var/lib/records; echo 0 >/run/acknowledged")
    spawn(ecs["id"], "echo $$ >/run/writer.pid; exec sh /run/writer")
    counts, frozen = [], []
    for number in range(20):
        consistency = "crash" if number % 5 == 4 else "best"
        acknowledged = int(shell(ecs["id"], "cat /run/acknowledged"))
        image = capture(service, ecs, f"writing-{number}", "--consistency", consistency, *PLAIN)
        assert image["consistency"] == ("crash" if consistency == "crash" else "filesystem")
        counts.append(records_in(image, folder, replay=consistency == "crash"))
        frozen.append(service.ims("image", "show", image["id"])["capture"]["frozen_seconds"])
        assert counts[-1] >= acknowledged
    shell(ecs["id"], "kill $(cat /run/writer.pid)")
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 0
    assert max(frozen) < 1.0, frozen
    assert is_thawed(ecs["id"])


def records_in(image: dict[str, Any], folder: Path, *, replay: bool) -> int:
    """How many records the image holds, all of them whole and in order."""
    root = write_root(digests(image)[0], folder / "records.root")
    if replay:
        repair(root)
    lines = file_in(root, "/var/lib/records").splitlines()
    root.unlink()
    assert lines == [record(number) for number in range(1, len(lines) + 1)]
    return len(lines)


def record(number: int) -> str:
    return f"{number} {sha256(b'%d' % number + bytes([10]))}"


def test_stopped_capture_is_the_disk_byte_for_byte(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    """And what a running guest noted before it was stopped still tells the next capture what changed."""
    capture(service, ecs, "running", "--whole", *PLAIN)
    service.ims("ecs", "stop", ecs["id"])
    image = capture(service, ecs, "stopped", "--whole", *PLAIN)
    assert image["consistency"] == "stopped"
    for index, digest in enumerate(digests(image)):
        overlay, full = service.home / "ecs" / ecs["id"] / f"disk-{index}.qcow2", folder / "full.raw"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(overlay), str(full)], check=True)
        assert sha256(full.read_bytes()) == stored_sha256(digest)
        full.unlink()
    assert service.ims("ecs", "start", ecs["id"])["state"] == "active"
    capture(service, ecs, "running-again", *PLAIN, "--consistency", "crash")
    shown = service.ims("image", "show", "running-again")
    assert shown["capture"]["disks"][0]["read"] == "changes"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stored_sha256(digest: str) -> str:
    manifest, read = stored_disk(ManifestDigest(digest))
    whole = hashlib.sha256()
    for offset in range(0, manifest.virtual_size, 1 << 22):
        whole.update(read(offset, 1 << 22))
    return whole.hexdigest()


def test_captured_image_is_exported_like_any_other(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    image = service.ims("image", "show", "stopped")
    target = folder / "captured.raw"
    answer = service.ims("image", "export", image["id"], "--format", "raw", "--to", str(target))
    assert answer["sha256"] == stored_sha256(digests(image)[0])
    target.unlink()


def test_data_disk_image_is_attached_to_a_running_ecs(service: Service, ecs: dict[str, Any]) -> None:
    shell(ecs["id"], "echo copy-me | dd of=/dev/vdb bs=1M seek=9 conv=notrunc,fsync 2>/dev/null")
    image = capture(service, ecs, "data", "--disk", "1")
    assert [disk["kind"] for disk in image["disks"]] == ["data"]
    assert service.refused("ecs", "launch", image["id"], "--name", "no-system") == "request.image"
    assert [disk["index"] for disk in service.ims("ecs", "attach", ecs["id"], image["id"])["disks"]] == [0, 1, 2]
    found = shell(
        ecs["id"], "sleep 1; for d in /dev/vd?; do dd if=$d bs=1M skip=9 count=1 2>/dev/null | grep -a -o copy-me; done"
    )
    assert found.split() == ["copy-me", "copy-me"]
    whole = capture(service, ecs, "with-attached", "--whole", *PLAIN)
    ways = [disk["read"] for disk in service.ims("image", "show", whole["id"])["capture"]["disks"]]
    assert ways == ["changes", "changes", "whole"]
    assert service.refused("ecs", "attach", ecs["id"], "golden") == "request.image"


def test_ecs_that_builds_or_is_locked_is_refused(service: Service, ecs: dict[str, Any]) -> None:
    assert service.refused("ecs", "capture", "no-such-ecs", "--name", "x") == "ecs.not_found"
    both = ("--disk", "3", *PLAIN)
    assert service.refused("ecs", "capture", ecs["id"], "--name", "no-disk", *both) == "capture.disks"
    assert not has_job(ecs["id"])


def test_paused_ecs_is_refused(service: Service, ecs: dict[str, Any]) -> None:
    virsh = ["virsh", "-c", "qemu:///system"]
    subprocess.run([*virsh, "suspend", f"ims-{ecs['id']}"], check=True, capture_output=True)
    assert service.refused("ecs", "capture", ecs["id"], "--name", "paused", *PLAIN) == "ecs.paused"
    subprocess.run([*virsh, "resume", f"ims-{ecs['id']}"], check=True, capture_output=True)
    assert is_thawed(ecs["id"])


def test_lineage_names_the_ecs_and_the_image_it_came_from(service: Service, ecs: dict[str, Any]) -> None:
    golden = service.ims("image", "show", "golden")
    tree = service.ims("image", "lineage", golden["id"])["lineage"]
    assert tree["id"] == ecs["image_id"]
    assert ecs["id"] in [each["id"] for each in tree["ecs"]]
    child = next(each for each in tree["children"] if each["id"] == golden["id"])
    assert child["source_ecs_id"] == ecs["id"]
    assert json.dumps(tree).count('"id"') > 20
