"""The NoCloud seed image of one guest: hostname, SSH keys and user data for cloud-init and its kin.

Format: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html. The file is its owner's secret:
mode 0600.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tasks.engine.errors import RequestRefused
from tasks.engine.guests.command import run

MAX_USER_DATA = 64 << 10
MAX_SSH_KEYS = 32
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SSH_KEY = re.compile(
    r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]{1,60}) [A-Za-z0-9+/]{16,16000}={0,3}( [^\n\r\0]{0,200})?"
)


@dataclass(frozen=True, kw_only=True)
class Seed:
    """What a guest is told at its first boot; `instance_id` changes when it must configure itself anew."""

    instance_id: UUID
    hostname: str
    ssh_keys: Sequence[str] = ()
    user_data: str = ""


def hostname_of(name: str) -> str:
    """A valid host name as close to an ECS's name as possible."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "ecs"


def check_seed(seed: Seed) -> None:
    """RequestRefused for anything a guest could not use or that could break out of its field."""
    if not _HOSTNAME.fullmatch(seed.hostname):
        raise RequestRefused("hostname", f"{seed.hostname[:80]!r} is not a host name",
                             remedy="Use up to 63 of a-z, 0-9 and -.")  # fmt: skip
    if len(seed.user_data.encode()) > MAX_USER_DATA or "\0" in seed.user_data:
        raise RequestRefused("user_data", f"user data must be text of at most {MAX_USER_DATA} bytes")
    if len(seed.ssh_keys) > MAX_SSH_KEYS:
        raise RequestRefused("ssh_keys", f"at most {MAX_SSH_KEYS} SSH keys, not {len(seed.ssh_keys)}")
    for number, key in enumerate(seed.ssh_keys, start=1):
        if not _SSH_KEY.fullmatch(key.strip()):
            raise RequestRefused("ssh_keys", f"SSH key {number} is not one line of an OpenSSH public key")


def read_ssh_keys(text: str) -> list[str]:
    """The keys of an authorized_keys or .pub file, each once, in order."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def write_seed(path: Path, seed: Seed) -> None:
    """Build the ISO image at `path`, complete or not at all."""
    check_seed(seed)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".seed-") as folder:
        content = Path(folder, "content")
        content.mkdir()
        (content / "meta-data").write_text(meta_data(seed))
        (content / "user-data").write_text(seed.user_data or "#cloud-config\n{}\n")
        image = Path(folder, "seed.iso")
        options = ["-quiet", "-volid", "cidata", "-joliet", "-rational-rock", "-output", str(image)]
        run(["xorriso", "-as", "mkisofs", *options, str(content)])
        image.chmod(0o600)
        os.replace(image, path)


def meta_data(seed: Seed) -> str:
    """NoCloud's meta-data; keys go here, so that they join whatever kind of user data the owner brings."""
    lines = [f"instance-id: {seed.instance_id}", f"local-hostname: {json.dumps(seed.hostname)}"]
    if keys := dict.fromkeys(key.strip() for key in seed.ssh_keys):
        lines += ["public-keys:", *(f"  - {json.dumps(key)}" for key in keys)]
    return "\n".join(lines) + "\n"
