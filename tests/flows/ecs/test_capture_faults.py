"""What goes wrong in the middle of a capture, and that the ECS comes back thawed, unlocked and running whatever it was.

Each test ends by repeating the command: the same image becomes active and holds what the guest's disk held.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import Service
from guest_shell import ask, has_job, is_thawed, shell, spawn, write_raw

from deployments.embedded.probes import prefect_call
from tasks.engine.settings import load_settings
from tasks.resources import images_bucket

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("unwatched")]

MIB = 64
"""What the guest changes before each capture: enough chunks that something can happen between them."""
HOOK = "/etc/qemu/fsfreeze-hook"


@pytest.fixture(scope="module")
def ecs(service: Service, sample_image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A running ECS with a data disk."""
    made = service.ims("ecs", "launch", sample_image["id"], "--name", "victim", "--flavor", "tiny", "--data-disk", "1")
    yield made
    service.ims("ecs", "delete", made["id"])


@pytest.fixture
def changed(ecs: dict[str, Any]) -> str:
    """The MD5 of the data disk's first bytes, all of them new."""
    shell(ecs["id"], f"dd if=/dev/urandom of=/dev/vdb bs=1M count={MIB} conv=notrunc,fsync 2>/dev/null")
    return shell(ecs["id"], f"dd if=/dev/vdb bs=1M count={MIB} 2>/dev/null | md5sum").split()[0]


def arguments(ecs: dict[str, Any], name: str) -> list[str]:
    return ["ecs", "capture", ecs["id"], "--name", name, "--disk", "1", "--verify", "none"]


@contextmanager
def capturing(service: Service, ecs: dict[str, Any], name: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, which has ended after the block."""
    options = {"env": service.environment(), "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(service.command(*arguments(ecs, name)), **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def debt_of(service: Service, ecs: dict[str, Any]) -> dict[str, Any] | None:
    """What the capture under way owes the guest."""
    try:
        return dict(json.loads((service.home / "ecs" / ecs["id"] / "capture.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def until(condition: Callable[[], bool], *, seconds: float = 60, every: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(every)


def store_pid(service: Service) -> int:
    return int(json.loads((service.home / "run" / "s3.json").read_text())["pid"])


@contextmanager
def store_stands_still(service: Service) -> Iterator[None]:
    """The store takes calls and answers none."""
    pid = store_pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def reading(service: Service, ecs: dict[str, Any]) -> bool:
    """Whether the moment has been taken and the disks are being read."""
    debt = debt_of(service, ecs)
    return debt is not None and debt["frozen_since"] is None and has_job(ecs["id"])


def is_at_rest(service: Service, ecs: dict[str, Any]) -> None:
    """The ECS in the catalog, in libvirt and on the host, as if nothing had been captured."""
    shown = service.ims("ecs", "show", ecs["id"])
    assert (shown["state"], shown["locked_by"], shown["domain"]) == ("active", None, "running")
    assert not has_job(ecs["id"])
    assert is_thawed(ecs["id"])
    assert debt_of(service, ecs) is None
    assert not list((service.home / "ecs" / ecs["id"]).glob("scratch-*"))


def image_named(service: Service, name: str) -> dict[str, Any]:
    (image,) = (image for image in service.ims("image", "list")["images"] if image["name"] == name)
    return image


def succeeds_when_repeated(service: Service, ecs: dict[str, Any], name: str, md5: str, folder: Path) -> None:
    """The same command makes the same image active, and it holds what the disk held."""
    left = image_named(service, name)
    assert (left["state"], left["disks"]) == ("error", [])
    image = service.ims(*arguments(ecs, name))
    assert (image["id"], image["state"]) == (left["id"], "active")
    raw = write_raw(image["disks"][0]["digest"], folder / "victim.raw")
    found = subprocess.run(f"head -c {MIB << 20} {raw} | md5sum", shell=True, capture_output=True, text=True, check=True)
    raw.unlink()
    assert found.stdout.split()[0] == md5
    (disk,) = service.ims("image", "show", image["id"])["capture"]["disks"]
    assert disk["read"] == "changes"
    is_at_rest(service, ecs)


def test_capture_killed_while_it_reads_is_cleaned_up_by_the_host(
    service: Service, ecs: dict[str, Any], changed: str, folder: Path
) -> None:
    """The guest is free within seconds although nobody did anything; `reconcile` frees the catalog."""
    with capturing(service, ecs, "killed") as process:
        until(lambda: reading(service, ecs), every=0.005)
        with store_stands_still(service):
            assert service.refused("ecs", "stop", ecs["id"], status=3) == "ecs.locked"
            assert service.refused(*arguments(ecs, "second"), status=3) == "ecs.locked"
            process.kill()
            process.wait()
            until(lambda: debt_of(service, ecs) is None, seconds=20)
    assert is_thawed(ecs["id"])
    assert not has_job(ecs["id"])
    assert service.ims("ecs", "show", ecs["id"])["locked_by"] is not None
    findings = service.ims("reconcile")["findings"]
    assert "operation.abandoned" in {finding["kind"] for finding in findings}
    assert service.ims("reconcile")["repaired"] == 0
    assert image_named(service, "killed")["error_code"] == "operation.abandoned"
    is_at_rest(service, ecs)
    succeeds_when_repeated(service, ecs, "killed", changed, folder)


def test_capture_killed_while_the_guest_is_frozen_leaves_it_thawed(
    service: Service, ecs: dict[str, Any], changed: str, folder: Path
) -> None:
    """Repeated without `reconcile`: the same command takes over what its dead process held."""
    with capturing(service, ecs, "killed-frozen") as process:
        until(lambda: bool((debt_of(service, ecs) or {}).get("frozen_since")), every=0.001)
        process.kill()
        process.wait()
    until(lambda: debt_of(service, ecs) is None, seconds=20)
    assert is_thawed(ecs["id"])
    image = service.ims(*arguments(ecs, "killed-frozen"))
    assert image["state"] == "active"
    assert image["id"] == image_named(service, "killed-frozen")["id"]
    is_at_rest(service, ecs)


def test_store_that_goes_away_half_way_costs_the_image_alone(
    service: Service, ecs: dict[str, Any], changed: str, folder: Path
) -> None:
    before = {found.key for found in images_bucket().list("chunks/")}
    with capturing(service, ecs, "no-store") as process:
        until(lambda: reading(service, ecs), every=0.005)
        until(lambda: bool({found.key for found in images_bucket().list("chunks/")} - before), every=0.005)
        os.kill(store_pid(service), signal.SIGKILL)
        answer = json.loads(process.communicate(timeout=180)[0])
        assert (answer["error"]["code"], process.returncode) == ("store.unavailable", 3)
    is_at_rest(service, ecs)
    service.ims("up")
    assert image_named(service, "no-store")["error_code"] == "store.unavailable"
    succeeds_when_repeated(service, ecs, "no-store", changed, folder)


def test_run_cancelled_in_the_ui_lets_the_guest_go(service: Service, ecs: dict[str, Any], changed: str, folder: Path) -> None:
    """By the call that the UI's button makes; the worker then ends the run's process."""
    run = service.ims(*arguments(ecs, "cancelled"), "--detach")["flow_run_id"]
    until(lambda: reading(service, ecs), seconds=90, every=0.005)
    with store_stands_still(service):
        call(service, f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
        time.sleep(12)  # until the worker has passed the signal on; without it the capture would be done before
    until(lambda: call(service, f"/flow_runs/{run}")["state_type"] == "CANCELLED", seconds=60)
    until(lambda: debt_of(service, ecs) is None, seconds=20)
    is_at_rest(service, ecs)
    assert image_named(service, "cancelled")["error_code"] == "operation.cancelled"
    succeeds_when_repeated(service, ecs, "cancelled", changed, folder)


def call(service: Service, path: str, body: dict[str, Any] | None = None) -> Any:
    login = (service.home / "prefect.login").read_text().strip()
    return prefect_call(load_settings().prefect_api_url, path, login=login, body=body)


def test_agent_that_hangs_in_freeze_costs_the_consistency_alone(service: Service, ecs: dict[str, Any], changed: str) -> None:
    """The freeze takes effect long after the capture gave up on it, and the host agent still thaws the guest."""
    shell(ecs["id"], f"mkdir -p /etc/qemu; printf '#!/bin/sh\\n[ $1 = freeze ] && sleep 25\\n:\\n' >{HOOK}; chmod 755 {HOOK}")
    restart_agent(ecs["id"])
    image = service.ims(*arguments(ecs, "hanging"))
    assert (image["state"], image["consistency"]) == ("active", "crash")
    assert "no answer" in service.ims("image", "show", image["id"])["capture"]["note"]
    assert service.ims("ecs", "show", ecs["id"])["locked_by"] is None
    assert debt_of(service, ecs) is not None
    until(lambda: debt_of(service, ecs) is None, seconds=90, every=0.5)
    shell(ecs["id"], f"rm {HOOK}")
    restart_agent(ecs["id"])
    is_at_rest(service, ecs)


def restart_agent(ecs_id: str) -> None:
    """init starts it again, with or without its hook."""
    old = shell(ecs_id, "pidof qemu-ga").strip()
    spawn(ecs_id, f"sleep 0.5; kill {old}")
    until(lambda: agent_pid(ecs_id) not in ("", old), every=0.5)


def agent_pid(ecs_id: str) -> str:
    ask(ecs_id, "guest-ping")
    return shell(ecs_id, "pidof qemu-ga").strip()
