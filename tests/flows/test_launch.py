"""The main job: the sample guest imported in two formats, launched, run through faults, exported again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Service

from deployments.demo import write_as_zvhd
from tasks.disks import stored_disk
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.disks import gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.formats import EXPORT_FORMATS, DiskFormat, Window
from tasks.engine.disks.opening import open_disk
from tasks.engine.errors import HostUnavailable
from tasks.engine.geometry import CHUNK_SIZE
from tasks.guests import undo_launch
from tasks.sagas import Call, saga

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def ecs(service: Service, sample_image: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A running ECS of the sample image, with a key and user data."""
    (folder / "key.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2mXJv1QyWbA2rXn0Vn3yqJ8m0cVnM6Z1lXk3y4b5cD test@example\n"
    )
    (folder / "user-data").write_text("#!/bin/sh\necho user-data-ran-here\n")
    options = ["--flavor", "tiny", "--ssh-key", str(folder / "key.pub"), "--user-data", str(folder / "user-data")]
    return service.ims("ecs", "launch", sample_image["id"], "--name", "web-1", *options)


def until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def test_import_proves_the_boot_and_finds_the_system(sample_image: dict[str, Any]) -> None:
    assert (sample_image["state"], sample_image["boot_proof"]) == ("active", "agent")
    assert (sample_image["os_distro"], sample_image["architecture"], sample_image["boot_mode"]) == ("debian", "x86_64", "bios")
    assert (sample_image["disks"][0]["kind"], sample_image["format"]) == ("system", "vmdk")


def test_second_format_of_the_same_disk_stores_almost_nothing(
    service: Service, sample: Path, sample_image: dict[str, Any]
) -> None:
    image = service.ims("image", "import", str(write_as_zvhd(sample)), "--name", "sample-zvhd", "--verify", "none")
    assert image["disks"][0]["digest"] == sample_image["disks"][0]["digest"]
    assert image["bytes_new"] == 0


def test_launch_is_ready_and_took_its_seed(service: Service, ecs: dict[str, Any]) -> None:
    assert (ecs["state"], ecs["ready_by"], ecs["accelerator"]) == ("active", "agent", "tcg")
    console = service.ims("ecs", "console", ecs["id"], "--lines", "500")["console"]
    assert "web-1 login:" in console
    assert "user-data-ran-here" in console
    assert service.ims("ecs", "show", "web-1")["domain"] == "running"


def test_screenshot_is_a_picture(service: Service, ecs: dict[str, Any], folder: Path) -> None:
    shown = service.ims("ecs", "screenshot", ecs["id"], "--to", str(folder / "screen.png"))
    assert Path(shown["path"]).read_bytes().startswith(b"\x89PNG")


def test_server_fetched_every_chunk_once(service: Service, sample_image: dict[str, Any], ecs: dict[str, Any]) -> None:
    """The background fill goes on for a moment after the launch. Other tests' disks may have been served before."""
    manifest, _ = stored_disk(ManifestDigest(sample_image["disks"][0]["digest"]))
    chunks = {digest.hex() for _, digest in manifest.entries()}

    def cached() -> set[str]:
        return {path.name for path in (service.home / "cache").glob("??/*")}

    def fetched() -> int:
        counts: dict[str, int] = json.loads((service.home / "run" / "nbd-stats.json").read_text())
        return counts["fetched_chunks"]

    assert until(lambda: not list((service.home / "run" / "fill").iterdir()), seconds=30)
    assert until(lambda: fetched() == len(cached()), seconds=5)
    assert chunks <= cached()


def test_ecs_survives_the_death_of_its_nbd_server(service: Service, ecs: dict[str, Any]) -> None:
    (server,) = nbd_servers(service)
    os.kill(server, signal.SIGKILL)
    assert until(lambda: len(nbd_servers(service)) == 1 and nbd_servers(service) != [server], seconds=30)
    assert until(lambda: service.ims("ecs", "show", ecs["id"])["domain"] == "running", seconds=60)
    assert agent_answers(ecs["id"])


def nbd_servers(service: Service) -> list[int]:
    """Ids of the nbdkit processes of this home."""
    wanted = str(service.home / "run").encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"nbdkit") and any(word.startswith(wanted) for word in words):
            found.append(int(entry.parent.name))
    return found


def agent_answers(ecs_id: str) -> bool:
    """Whether a fresh question to the guest's agent, which makes it read its disk, is answered."""
    ask = ["virsh", "-c", "qemu:///system", "qemu-agent-command", f"ims-{ecs_id}", '{"execute":"guest-get-osinfo"}']
    return until(lambda: subprocess.run(ask, capture_output=True).returncode == 0, seconds=60)


def test_ecs_survives_the_store(service: Service, ecs: dict[str, Any]) -> None:
    record = json.loads((service.home / "run" / "s3.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    assert service.run("status").status == 3
    assert agent_answers(ecs["id"])
    service.ims("up")
    assert service.run("status").status == 0
    assert agent_answers(ecs["id"])


def test_stop_and_start_keep_the_disk(service: Service, ecs: dict[str, Any]) -> None:
    assert service.ims("ecs", "stop", ecs["id"])["state"] == "stopped"
    assert service.ims("ecs", "show", ecs["id"])["domain"] == "stopped"
    assert service.ims("ecs", "start", ecs["id"])["state"] == "active"
    assert agent_answers(ecs["id"])
    assert "user-data-ran-here" not in service.ims("ecs", "console", ecs["id"], "--lines", "500")["console"]


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_export_holds_the_same_disk(
    service: Service, sample: Path, sample_image: dict[str, Any], folder: Path, format: DiskFormat
) -> None:
    target = folder / f"export.{format}"
    answer = service.ims("image", "export", sample_image["id"], "--format", format, "--to", str(target))
    assert answer["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert content(target, format) == hashlib.sha256(sample.read_bytes()).hexdigest()
    target.unlink()


def test_export_without_a_path_is_handed_out_by_an_address(service: Service, sample_image: dict[str, Any]) -> None:
    answer = service.ims("image", "export", sample_image["id"], "--format", "zvhd2")
    body = httpx.get(answer["url"], timeout=60).content
    assert (hashlib.sha256(body).hexdigest(), len(body)) == (answer["sha256"], answer["size"])
    taken = ["--format", "raw", "--to", "/etc/passwd"]
    assert service.refused("image", "export", sample_image["id"], *taken) == "request.target_exists"


def test_standalone_ecs_needs_nothing_but_its_own_file(service: Service, sample_image: dict[str, Any]) -> None:
    ecs = service.ims("ecs", "launch", sample_image["id"], "--name", "alone", "--flavor", "tiny", "--standalone")
    assert (ecs["state"], ecs["standalone"]) == ("active", True)
    service.ims("ecs", "stop", "alone")
    overlay = service.home / "ecs" / ecs["id"] / "disk-0.qcow2"
    info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", str(overlay)], capture_output=True).stdout)
    assert "backing-filename" not in info
    assert service.ims("ecs", "start", "alone")["state"] == "active"
    assert agent_answers(ecs["id"])
    service.ims("ecs", "delete", "alone")


def content(path: Path, format: DiskFormat) -> str:
    """SHA-256 of the guest-visible bytes of an image file."""
    with FileBytes(Window(path)) as file:
        found = gate.examine(file, declared=format, max_virtual_size=1 << 40, depth="full")
    disk = bytearray(found.virtual_size)
    with open_disk(Window(path), found, scratch=path.parent) as reader:
        for pending in reader.pending_chunks():
            raw = pending.read()
            disk[pending.index * CHUNK_SIZE : pending.index * CHUNK_SIZE + len(raw)] = raw
    return hashlib.sha256(disk).hexdigest()


def test_disk_that_does_not_boot_is_refused_and_kept(service: Service, folder: Path) -> None:
    dead = folder / "dead.raw"
    sector = bytearray(512)
    sector[:4] = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jump back
    sector[510:] = b"\x55\xaa"
    dead.write_bytes(bytes(sector) + os.urandom(4 << 20))
    assert service.refused("image", "import", str(dead), "--name", "dead", IMS_BOOT_TIMEOUT_SECONDS="25") == "boot.none"
    image = next(each for each in service.ims("image", "list")["images"] if each["name"] == "dead")
    assert (image["state"], image["boot_proof"]) == ("error", "none")
    assert not list((service.home / "scratch").iterdir())


def test_deleted_ecs_leaves_nothing(service: Service, ecs: dict[str, Any]) -> None:
    assert service.ims("ecs", "delete", ecs["id"])["state"] == "deleted"
    assert not (service.home / "ecs" / ecs["id"]).exists()
    listed = subprocess.run(["virsh", "-c", "qemu:///system", "list", "--all", "--name"], capture_output=True, text=True)
    assert ecs["id"] not in listed.stdout
    assert service.refused("ecs", "show", ecs["id"]) == "ecs.not_found"


def test_launch_that_fails_after_it_is_active_keeps_its_guest(service: Service, sample_image: dict[str, Any]) -> None:
    """What a failed report must not cost: the ECS that already runs."""
    ecs = service.ims("ecs", "launch", sample_image["id"], "--name", "kept", "--flavor", "tiny")
    with suppress(HostUnavailable), saga(Call(kind="launch", account="admin"), undo=undo_launch) as held:
        held.subject = ecs["id"]
        raise HostUnavailable("report", "the report could not be written")
    assert service.ims("ecs", "show", "kept")["domain"] == "running"
    service.ims("ecs", "delete", "kept")


def test_launch_that_fails_while_it_builds_leaves_nothing(service: Service, sample_image: dict[str, Any]) -> None:
    arguments = ["ecs", "launch", sample_image["id"], "--name", "broken", "--flavor", "tiny"]
    assert service.refused(*arguments, status=3, IMS_LIBVIRT_URI="qemu+unix:///system?socket=/no/such") == "host.libvirt"
    (row,) = (ecs for ecs in service.ims("ecs", "list")["ecs"] if ecs["name"] == "broken")
    assert (row["state"], row["error_code"]) == ("error", "host.libvirt")
    again = service.ims(*arguments)
    assert (again["id"], again["state"]) == (row["id"], "active")
    service.ims("ecs", "delete", "broken")
