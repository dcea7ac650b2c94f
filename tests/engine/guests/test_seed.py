"""The seed image as a guest would read it, and what is refused before one is made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from tasks.engine.errors import RequestRefused
from tasks.engine.guests.seed import Seed, check_seed, hostname_of, meta_data, read_ssh_keys, write_seed

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHm0sHRbFOjGJqKDmdKJvWGYTxXm ann@home"
SEED = Seed(instance_id=UUID(int=7), hostname="web-1", ssh_keys=[KEY, KEY], user_data="#!/bin/sh\ntrue\n")


def read_back(image: Path, name: str) -> str:
    target = image.parent / f"read-{name}"
    subprocess.run(
        ["xorriso", "-osirrox", "on", "-indev", image, "-extract", f"/{name}", target], check=True, capture_output=True
    )
    return target.read_text()


def test_seed_image_holds_both_files_under_the_expected_label(tmp_path: Path):
    image = tmp_path / "seed.iso"
    write_seed(image, SEED)
    assert image.read_bytes()[32808:32840].strip() == b"cidata"
    assert read_back(image, "user-data") == SEED.user_data
    assert read_back(image, "meta-data") == meta_data(SEED)


def test_seed_image_is_its_owners_secret_and_leaves_nothing_else(tmp_path: Path):
    write_seed(tmp_path / "seed.iso", SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["seed.iso"]
    assert (tmp_path / "seed.iso").stat().st_mode & 0o777 == 0o600


def test_meta_data_lists_each_key_once():
    assert meta_data(SEED).splitlines() == [
        "instance-id: 00000000-0000-0000-0000-000000000007",
        'local-hostname: "web-1"',
        "public-keys:",
        f'  - "{KEY}"',
    ]


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a\nb", "a" * 64])
def test_impossible_hostname_is_refused(name: str):
    with pytest.raises(RequestRefused) as refusal:
        check_seed(Seed(instance_id=UUID(int=1), hostname=name))
    assert refusal.value.code == "request.hostname"


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-dss AAAAB3NzaC1kc3MAAACB", KEY + "\nroot: x", f'command="x" {KEY}'])
def test_thing_that_is_no_public_key_is_refused(key: str):
    with pytest.raises(RequestRefused) as refusal:
        check_seed(Seed(instance_id=UUID(int=1), hostname="a", ssh_keys=[key]))
    assert refusal.value.code == "request.ssh_keys"


@pytest.mark.parametrize("text", ["x" * ((64 << 10) + 1), "a\0b"])
def test_oversized_or_binary_user_data_is_refused(text: str):
    with pytest.raises(RequestRefused) as refusal:
        check_seed(Seed(instance_id=UUID(int=1), hostname="a", user_data=text))
    assert refusal.value.code == "request.user_data"


@pytest.mark.parametrize(("name", "host"), [("Web Server", "web-server"), ("äö", "ecs"), ("-x-", "x"), ("a" * 90, "a" * 63)])
def test_hostname_is_close_to_the_ecs_name(name: str, host: str):
    assert hostname_of(name) == host


def test_key_file_gives_its_keys_without_comments():
    assert read_ssh_keys(f"# mine\n\n{KEY}\n{KEY}\n") == [KEY]
