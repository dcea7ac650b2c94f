"""Imports by the command, with the real store, catalog and Prefect server."""

from __future__ import annotations

import bz2
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from commands import Service
from forge_ova import manifest, ovf, write
from sqlmodel import select

from models.tables import Operation
from models.vocabulary import OperationState
from tasks.resources import catalog, exports_bucket, images_bucket, inbox_bucket

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("unwatched")]
MakeDisk = Callable[..., Path]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(image: dict[str, Any]) -> str:
    return str(image["disks"][0]["digest"])


def stored_chunks() -> set[str]:
    return {found.key for found in images_bucket().list("chunks/")}


@pytest.mark.parametrize("format", ["qcow2", "vmdk", "vpc", "vhdx", "vdi"])
def test_import_gives_the_same_disk_whatever_the_format(service: Service, data_disk: MakeDisk, format: str) -> None:
    raw = data_disk(1)
    first = service.ims("image", "import", str(raw), "--name", "as-raw", "--format", "raw")
    again = service.ims("image", "import", str(service.convert(raw, format)), "--name", f"as-{format}")
    assert (again["state"], again["disks"][0]["virtual_size"]) == ("active", first["disks"][0]["virtual_size"])
    assert (digest_of(again), again["bytes_new"]) == (digest_of(first), 0)


def test_import_of_a_compressed_file_gives_the_same_disk(service: Service, data_disk: MakeDisk, folder: Path) -> None:
    raw = data_disk(2, mib=2)
    wrapped = folder / "data.raw.bz2"
    wrapped.write_bytes(bz2.compress(raw.read_bytes()))
    plain = service.ims("image", "import", str(raw), "--name", "plain", "--format", "raw")
    unwrapped = service.ims("image", "import", str(wrapped), "--name", "wrapped")
    assert digest_of(unwrapped) == digest_of(plain)


def test_import_from_the_inbox(service: Service, data_disk: MakeDisk) -> None:
    raw = data_disk(3)
    inbox_bucket().upload("admin/folder/disk.raw", raw)
    image = service.ims(
        "image", "import", "inbox:folder/disk.raw", "--name", "from-inbox", "--checksum", f"sha256:{sha256(raw)}"
    )
    assert (image["state"], image["disks"][0]["virtual_size"]) == ("active", 8 << 20)
    assert not list((service.home / "scratch").iterdir())


def test_import_from_a_url_that_the_operator_allowed(service: Service, data_disk: MakeDisk) -> None:
    raw = data_disk(6)
    exports_bucket().upload("some/disk.raw", raw)
    url = exports_bucket().presign("some/disk.raw", seconds=600)
    store = urlsplit(url).netloc
    image = service.ims("image", "import", url, "--name", "from-url", "--format", "raw", IMS_URL_ALLOW=store)
    assert (image["state"], image["source"]) == ("active", url.split("?")[0])
    assert "Signature" not in json.dumps(service.ims("image", "show", image["id"]))


def test_import_of_an_ova_is_one_image_with_its_disks(service: Service, data_disk: MakeDisk, folder: Path) -> None:
    disks = {f"disk{number}.vmdk": stream_optimized(data_disk(number)).read_bytes() for number in (7, 8)}
    described = {"web.ovf": ovf(disks, disk='ovf:capacity="8388608"'), **disks}
    package = write(folder / "web.ova", {"web.ovf": described["web.ovf"], "web.mf": manifest(described), **disks})
    image = service.ims("image", "import", str(package), "--name", "two-disks")
    plain = [service.ims("image", "import", str(data_disk(number)), "--name", f"disk-{number}") for number in (7, 8)]
    assert [disk["digest"] for disk in image["disks"]] == [digest_of(each) for each in plain]


def stream_optimized(raw: Path) -> Path:
    target = raw.with_suffix(".stream.vmdk")
    options = ["-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run(["qemu-img", "convert", "-f", "raw", *options, str(raw), str(target)], check=True)
    return target


def test_import_repeated_with_its_key_returns_the_same_image(service: Service, data_disk: MakeDisk) -> None:
    arguments = ["image", "import", str(data_disk(4)), "--name", "once", "--idempotency-key", "key-4"]
    first, second = service.ims(*arguments), service.ims(*arguments)
    assert first["id"] == second["id"]
    assert sum(image["name"] == "once" for image in service.ims("image", "list")["images"]) == 1


def test_import_repeated_without_a_key_makes_another_image(service: Service, data_disk: MakeDisk) -> None:
    arguments = ["image", "import", str(data_disk(4)), "--name", "twice"]
    assert service.ims(*arguments)["id"] != service.ims(*arguments)["id"]


@pytest.mark.parametrize("delay", [0.0, 0.4, 1.2])
def test_import_killed_and_repeated_is_one_image_and_sends_only_what_lacks(
    service: Service, data_disk: MakeDisk, delay: float
) -> None:
    raw = data_disk(int(100 + 10 * delay), mib=96)
    name = f"killed-{delay}"
    arguments = ["image", "import", str(raw), "--name", name, "--idempotency-key", name]
    before = stored_chunks()
    victim = subprocess.Popen(service.command(*arguments), env=service.environment(), stdout=subprocess.DEVNULL)
    wait_until_chunks_arrive(before, victim)
    time.sleep(delay)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    sent = len(stored_chunks() - before)
    (left,) = (each for each in service.ims("image", "list")["images"] if each["name"] == name)
    image = service.ims(*arguments)
    assert (image["id"], image["state"]) == (left["id"], "active")
    assert [each["name"] for each in service.ims("image", "list")["images"]].count(name) == 1
    missing = 96 if left["state"] == "active" else 96 - sent  # an active one keeps what its own run sent
    assert abs(image["bytes_new"] - missing * (1 << 20)) <= 8 << 20
    assert not list((service.home / "scratch").iterdir())


def wait_until_chunks_arrive(before: set[str], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not stored_chunks() - before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_import_leaves_a_run_with_progress_and_a_report(service: Service, data_disk: MakeDisk) -> None:
    image = service.ims("image", "import", str(data_disk(5)), "--name", "reported")
    settings = dict(line.split("=", 1) for line in (service.home / "settings.env").read_text().splitlines() if "=" in line)
    login = (service.home / "prefect.login").read_text().strip() if (service.home / "prefect.login").exists() else ""
    auth = tuple(login.split(":", 1)) if login else None
    with httpx.Client(base_url=settings["IMS_PREFECT_API_URL"], auth=auth, timeout=30) as client:  # type: ignore[arg-type]
        found = client.post("/artifacts/filter", json={"artifacts": {"key": {"any_": [f"image-{image['id']}"]}}}).json()
        runs = client.post("/flow_runs/filter", json={"flow_runs": {"name": {"any_": ["import reported for admin"]}}}).json()
    assert image["disks"][0]["digest"] in found[0]["data"]
    assert [run["state_type"] for run in runs] == ["COMPLETED"]


def test_import_killed_after_activation_returns_the_active_image(service: Service, data_disk: MakeDisk) -> None:
    """The last moment: the image is active, its operation is not yet done, as a kill between the two leaves them."""
    arguments = ["image", "import", str(data_disk(9)), "--name", "late", "--idempotency-key", "late"]
    first = service.ims(*arguments)
    with catalog(write=True) as session:
        operation = session.exec(select(Operation).where(Operation.subject_id == first["id"])).one()
        operation.state, operation.result, operation.lease_pid = OperationState.RUNNING, None, 1 << 22
        session.add(operation)
    again = service.ims(*arguments)
    assert (again["id"], again["state"]) == (first["id"], "active")
    assert not list((service.home / "scratch").iterdir())
