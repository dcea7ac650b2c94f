"""Overlays and the folder of an ECS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from tasks.engine.errors import HostUnavailable, RequestRefused
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.overlay import create_overlay, ecs_files, make_folder, remove_folder

BASE = Backing(socket=Path("/run/ims/nbd.sock"), export="d" * 64, virtual_size=8 << 20)


def test_overlay_names_its_base_and_its_format(tmp_path: Path):
    create_overlay(tmp_path / "o.qcow2", backing=BASE, virtual_size=9 << 20)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", tmp_path / "o.qcow2"]))
    assert info["virtual-size"] == 9 << 20
    assert info["backing-filename"] == BASE.address
    assert info["backing-filename-format"] == "raw"


@pytest.mark.parametrize("size", [(8 << 20) - 512, (8 << 20) + 1])
def test_overlay_smaller_than_its_base_or_crooked_is_refused(tmp_path: Path, size: int):
    with pytest.raises(RequestRefused, match="the disk must have"):
        create_overlay(tmp_path / "o.qcow2", backing=BASE, virtual_size=size)
    assert list(tmp_path.iterdir()) == []


def test_overlay_in_a_missing_folder_is_a_host_failure(tmp_path: Path):
    with pytest.raises(HostUnavailable, match="qemu-img failed"):
        create_overlay(tmp_path / "absent" / "o.qcow2", backing=BASE, virtual_size=8 << 20)


def test_folder_of_an_ecs_can_be_entered_but_not_listed(tmp_path: Path):
    files = ecs_files(tmp_path / "ecs", UUID(int=3))
    make_folder(files)
    make_folder(files)
    assert files.folder.stat().st_mode & 0o777 == 0o711


def test_folder_of_an_ecs_is_removed_with_all_in_it(tmp_path: Path):
    files = ecs_files(tmp_path / "ecs", UUID(int=3))
    make_folder(files)
    files.seed.write_text("x")
    remove_folder(files)
    remove_folder(files)
    assert not files.folder.exists()
