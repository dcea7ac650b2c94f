"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.engine.disks.drafts import draft_of
from tasks.engine.errors import HostUnavailable, OperationBusy


def test_draft_of_a_success_takes_the_name_alone(tmp_path: Path) -> None:
    with draft_of(tmp_path / "image") as draft:
        draft.write_bytes(b"content")
        assert not (tmp_path / "image").exists()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("image", b"content")]


def test_draft_of_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable, match=r"host\.disk_write"), draft_of(tmp_path / "absent" / "image"):
        pass


def test_draft_of_a_link_that_somebody_laid_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / ".image.part").symlink_to(victim)
    with pytest.raises(HostUnavailable), draft_of(tmp_path / "image"):
        pass
    assert victim.read_bytes() == b"untouched"


def test_draft_of_a_file_that_another_writes_is_busy(tmp_path: Path) -> None:
    destination = tmp_path / "image"
    with draft_of(destination) as draft:
        draft.write_bytes(b"first")
        with pytest.raises(OperationBusy), draft_of(destination):
            pass
    assert destination.read_bytes() == b"first"


def test_draft_of_a_failure_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), draft_of(tmp_path / "image"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
