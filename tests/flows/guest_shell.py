"""Commands in a running ECS through its guest agent, and files out of captured disks. No tests here."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from deployments.sample_guest.disk import ROOT_START
from tasks.disks import stored_disk
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.geometry import CHUNK_SIZE

PATIENCE = 60
"""Seconds for one command; the guest's processor is emulated."""


def domain(ecs_id: str) -> Any:
    """The ECS's libvirt domain."""
    return libvirt.open("qemu:///system").lookupByName(f"ims-{ecs_id}")


def ask(ecs_id: str, command: str, **arguments: object) -> Any:
    """One question to the guest agent, which a guest that has just been started needs a while to have."""
    question, deadline = json.dumps({"execute": command, "arguments": arguments}), time.monotonic() + PATIENCE
    while True:
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(domain(ecs_id), question, PATIENCE, 0))["return"]
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_AGENT_UNRESPONSIVE or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def shell(ecs_id: str, command: str) -> str:
    """Standard output of a shell command in the guest, which must succeed."""
    pid = ask(ecs_id, "guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
    deadline = time.monotonic() + PATIENCE
    while not (status := ask(ecs_id, "guest-exec-status", pid=pid))["exited"]:
        assert time.monotonic() < deadline, command
        time.sleep(0.05)
    said = {name: base64.b64decode(status.get(f"{name}-data", "")).decode() for name in ("out", "err")}
    assert status["exitcode"] == 0, f"{command}: {said}"
    return said["out"]


def spawn(ecs_id: str, command: str) -> None:
    """Start a shell command in the guest that goes on by itself."""
    ask(ecs_id, "guest-exec", path="/bin/sh", arg=["-c", f"exec </dev/null >/dev/null 2>&1; {command}"])


def is_thawed(ecs_id: str) -> bool:
    """Whether the guest says that nothing is frozen, and proves it by writing."""
    return ask(ecs_id, "guest-fsfreeze-status") == "thawed" and shell(ecs_id, "date >/var/tmp/alive; sync; echo yes") == "yes\n"


def has_job(ecs_id: str) -> bool:
    """Whether a backup of the guest is under way."""
    try:
        domain(ecs_id).backupGetXMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
            return False
        raise
    return True


def write_raw(digest: str, target: Path, *, skip: int = 0) -> Path:
    """A stored disk as a raw file, without its first `skip` bytes (whole chunks)."""
    manifest, read = stored_disk(ManifestDigest(digest))
    with target.open("wb") as file:
        file.truncate(manifest.virtual_size - skip)
        for index, _ in manifest.entries():
            if (place := index * CHUNK_SIZE - skip) >= 0:
                file.seek(place)
                file.write(read(index * CHUNK_SIZE, CHUNK_SIZE))
    return target


def write_root(digest: str, target: Path) -> Path:
    """The sample guest's root file system, which reaches to the end of its disk."""
    return write_raw(digest, target, skip=ROOT_START)


def repair(root: Path) -> None:
    """What a boot does with the file system of a guest whose power was cut: its journal is replayed."""
    done = subprocess.run(["e2fsck", "-f", "-y", str(root)], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout


def file_in(root: Path, path: str) -> str:
    """A file of a file system; empty where there is none."""
    return subprocess.run(["debugfs", "-R", f"cat {path}", str(root)], capture_output=True, text=True, check=True).stdout
