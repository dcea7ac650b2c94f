"""What of this service is on a host, as far as folders tell; domains and jobs are in `tests/flows/ecs/test_reconcile.py`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.engine.guests import watch
from tasks.engine.guests.backup import Job
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.inventory import SeenDomain, old_check_folders
from tasks.engine.guests.overlay import EcsFiles, folders_by_id
from tasks.engine.guests.watch import Debt


@pytest.mark.parametrize(
    ("folders", "expected"),
    [(["a"], True), (["a", "b"], True), (["a", "../other/a"], False), (["../ecs-other/a"], False), ([], False)],
)
def test_domain_lies_where_all_its_disks_are(tmp_path: Path, folders: list[str], expected: bool) -> None:
    home = tmp_path / "ecs"
    places = frozenset((home / each).resolve() for each in folders)
    assert SeenDomain(state=DomainState.RUNNING, job=Job.NONE, folders=places).lies_in(home) is expected


def test_folders_of_guests_are_those_named_by_an_id(tmp_path: Path) -> None:
    ecs_id = uuid4()
    for name in (str(ecs_id), str(uuid4()).upper(), "boot-a-b-c-d", "a-b-c-d-e"):
        (tmp_path / name).mkdir()
    (tmp_path / str(uuid4())).touch()
    assert folders_by_id(tmp_path) == {ecs_id: tmp_path / str(ecs_id)}
    assert folders_by_id(tmp_path / "absent") == {}


def test_folder_of_a_boot_check_is_old_after_its_time(tmp_path: Path) -> None:
    for name, age in (("boot-old", 100), ("boot-new", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert old_check_folders(tmp_path, seconds=60) == [tmp_path / "boot-old"]


def test_debt_is_due_when_its_process_is_gone_or_late(tmp_path: Path) -> None:
    debts = {uuid4(): Debt(pid=1 << 22, started="0"), uuid4(): Debt.begin()}
    for ecs_id, debt in debts.items():
        (tmp_path / str(ecs_id)).mkdir()
        watch.note(EcsFiles(tmp_path / str(ecs_id)), debt)
    assert [watch.owed(files) for _, files in watch.due_debts(tmp_path)] == [next(iter(debts.values()))]
