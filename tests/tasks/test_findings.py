"""What an ECS's row, guest and files say together, and how findings are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.tables import Ecs, EcsDisk
from models.vocabulary import BootProof, DiskKind, EcsState
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.overlay import EcsFiles
from tasks.findings import FILES_CODE, Cure, Finding, findings_markdown, judge, summed_up

WHOLE, HALF, NONE = ("disk-0.qcow2", "disk-1.qcow2"), ("disk-0.qcow2",), ()


def cure(folder: Path, state: str, seen: str, files: tuple[str, ...], **values: object) -> Cure | None:
    """What is to be done about an ECS with two disks that was ready once."""
    if files:
        folder.mkdir()
    for name in files:
        (folder / name).touch()
    row = Ecs(owner="a", name="n", image_id="i", host="h", flavor="f", disk_gib=1, state=EcsState(state))
    row.ready_by = BootProof.AGENT
    row.disks = [EcsDisk(ecs_id=row.id, index=index, kind=DiskKind.DATA, size_bytes=1) for index in (0, 1)]
    row.sqlmodel_update(values)
    verdict = judge(row, DomainState(seen), EcsFiles(folder))
    return verdict.cure if verdict else None


@pytest.mark.parametrize(
    ("state", "seen", "files", "expected"),
    [
        ("active", "running", WHOLE, None),
        ("active", "running", HALF, None),
        ("active", "stopped", WHOLE, Cure.STOPPED),
        ("active", "crashed", WHOLE, Cure.STOPPED),
        ("active", "paused", WHOLE, Cure.NONE),
        ("active", "io_error", WHOLE, Cure.NONE),
        ("active", "absent", WHOLE, Cure.STOPPED),
        ("active", "absent", HALF, Cure.LOST),
        ("stopped", "stopped", WHOLE, None),
        ("stopped", "running", WHOLE, Cure.ACTIVE),
        ("stopped", "paused", WHOLE, Cure.NONE),
        ("stopped", "absent", WHOLE, None),
        ("stopped", "absent", NONE, Cure.LOST),
        ("building", "absent", NONE, Cure.DISCARD),
        ("error", "running", WHOLE, None),
    ],
)
def test_ecs_is_judged(tmp_path: Path, state: str, seen: str, files: tuple[str, ...], expected: Cure | None) -> None:
    assert cure(tmp_path / "ecs", state, seen, files) is expected


@pytest.mark.parametrize(
    ("seen", "files", "expected"),
    [("absent", NONE, None), ("running", WHOLE, Cure.DISCARD), ("absent", HALF, Cure.DISCARD), ("stopped", NONE, Cure.DISCARD)],
)
def test_failed_launch_leaves_nothing(tmp_path: Path, seen: str, files: tuple[str, ...], expected: Cure | None) -> None:
    assert cure(tmp_path / "ecs", "error", seen, files, ready_by=None, error_code="host.libvirt") is expected


@pytest.mark.parametrize(
    ("seen", "files", "expected"),
    [
        ("absent", HALF, None),
        ("absent", WHOLE, Cure.STOPPED),
        ("stopped", WHOLE, Cure.STOPPED),
        ("running", WHOLE, Cure.ACTIVE),
    ],
)
def test_ecs_comes_back_with_its_files(tmp_path: Path, seen: str, files: tuple[str, ...], expected: Cure | None) -> None:
    assert cure(tmp_path / "ecs", "error", seen, files, error_code=FILES_CODE) is expected


def test_report_of_nothing_says_so() -> None:
    assert "Nothing to repair" in findings_markdown(summed_up([], dry_run=False), host="here")


def test_report_shows_foreign_text_as_it_is() -> None:
    finding = Finding(kind="ecs.state", subject="1", found="a|b\n<img> ![x](y)", action="repaired")
    view = summed_up([finding, finding.model_copy(update={"action": "reported"})], dry_run=True)
    assert (view.repaired, view.reported) == (1, 1)
    assert r"a\|b &lt;img&gt; \!\[x\](y)" in findings_markdown(view, host="here")
