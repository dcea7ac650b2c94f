"""What killed runs leave behind, made for real, and one `ims reconcile` after it. Kills in the middle of a capture are
`test_capture`'s."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from commands import Service
from guest_shell import domain
from leftovers import copy_guest, dead_operation, ended_operation, left_of, new_row, set_ecs
from sqlmodel import select

from models.ecs import attach_disk, record_checkpoint
from models.facts import DiskFacts
from models.reconciliation import operation_rows
from models.tables import Ecs, Image, Operation
from models.trail import Actor, list_audit
from models.vocabulary import EcsState, ImageState, OperationState
from tasks.attaching import ADDED
from tasks.engine.guests import backup, checkpoints
from tasks.engine.guests.backup import BackupPlan
from tasks.guests import discard_guest, files_of
from tasks.resources import catalog
from tasks.sagas import Call, saga

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("unwatched")]
MakeDisk = Callable[..., Path]
CopyDomain = Callable[[str], None]
FORGET = libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA


@pytest.fixture(scope="module")
def ecs(service: Service, sample_image: dict[str, Any]) -> Iterator[str]:
    """A running ECS, when nothing else is left to repair."""
    made = service.ims("ecs", "launch", sample_image["id"], "--name", "mended", "--flavor", "tiny")
    service.ims("reconcile")
    yield made["id"]
    service.ims("ecs", "delete", made["id"])


@pytest.fixture
def clean(service: Service, ecs: str) -> Iterator[None]:
    """What was repaired once is not found again."""
    yield
    assert findings(service) == []


def findings(service: Service, *options: str) -> list[tuple[str, str, str]]:
    """Kind, subject and action of what is found; guests of other services on this machine are not our matter."""
    answer = service.ims("reconcile", *options)
    own = [each for each in answer["findings"] if "unknown; its disks are in" not in each["found"]]
    return [(each["kind"], each["subject"], each["action"]) for each in own]


@pytest.fixture
def copy_domain(ecs: str) -> Iterator[CopyDomain]:
    """Defines the ECS's guest a second time under another id, with a folder; nothing stays of it after the test."""
    made: list[str] = []

    def make(copy_id: str) -> None:
        made.append(copy_id)
        copy_guest(ecs, copy_id)

    yield make
    for copy_id in made:
        discard_guest(copy_id)


def shown(service: Service, ecs_id: str) -> tuple[str, str, str | None]:
    answer = service.ims("ecs", "show", ecs_id)
    return answer["state"], answer["domain"], answer["error_code"]


def test_account_that_is_no_operator_is_refused(service: Service) -> None:
    key = service.ims("account", "create", "outsider")["api_key"]
    assert service.refused("reconcile", IMS_ACCOUNT="outsider", IMS_API_KEY=key) == "account.operator"


def test_half_made_image_of_a_killed_import_goes_on_with_the_same_command(service: Service, data_disk: MakeDisk) -> None:
    arguments = ["image", "import", str(data_disk(60)), "--name", "half", "--idempotency-key", "half"]
    image_id = service.ims(*arguments)["id"]
    with catalog(write=True) as session:
        image = session.get(Image, image_id)
        operation = session.exec(select(Operation).where(Operation.subject_id == image_id)).one()
        assert image is not None
        image.state, operation.state, operation.lease_pid = ImageState.TRANSFERRING, OperationState.RUNNING, 1 << 22
        operation.result = None
        session.add_all([image, operation])
    assert ("operation.abandoned", operation.id, "repaired") in findings(service)
    failed = service.ims("image", "show", image_id)
    assert (failed["state"], failed["error_code"]) == ("error", "operation.abandoned")
    again = service.ims(*arguments)
    assert (again["id"], again["state"]) == (image_id, "active")


def test_image_that_nobody_makes_is_in_error(service: Service, ecs: str, data_disk: MakeDisk, clean: None) -> None:
    image_id = service.ims("image", "import", str(data_disk(61)), "--name", "nobody")["id"]
    with catalog(write=True) as session:
        image = session.get(Image, image_id)
        assert image is not None
        image.state = ImageState.VERIFYING
        session.add(image)
    assert findings(service) == [("image.unfinished", image_id, "repaired")]
    assert service.ims("image", "show", image_id)["state"] == "error"


def test_killed_launch_leaves_its_row_with_the_reason_alone(
    service: Service, sample_image: dict[str, Any], copy_domain: CopyDomain, clean: None
) -> None:
    row = new_row(sample_image)
    copy_domain(row)
    operation_id = dead_operation("launch", subject=row)
    assert findings(service) == [("operation.abandoned", operation_id, "repaired")]
    assert left_of(row) == []
    assert shown(service, row) == ("error", "absent", "operation.abandoned")
    with catalog() as session:
        operation = operation_rows(session, ids=[operation_id])[operation_id]
    assert (operation.state, operation.error_code) == (OperationState.FAILED, "operation.abandoned")


def test_killed_attach_takes_back_the_disk_that_no_guest_got(
    service: Service, ecs: str, data_disk: MakeDisk, clean: None
) -> None:
    image_id = service.ims("image", "import", str(data_disk(62)), "--name", "to-attach")["id"]
    with catalog(write=True) as session:
        row = session.get(Ecs, ecs)
        assert row is not None
        index = attach_disk(session, ecs=row, image_id=image_id, by=Actor("admin")).index
    operation_id = dead_operation("attach-disk", locks=ecs, step=(ADDED, {"ecs": ecs, "index": index}))
    assert findings(service) == [("operation.abandoned", operation_id, "repaired")]
    answer = service.ims("ecs", "show", ecs)
    assert (len(answer["disks"]), answer["locked_by"]) == (1, None)


@pytest.mark.parametrize("recorded", [False, True])
def test_killed_capture_leaves_the_ecs_free_and_what_the_next_builds_on(
    service: Service, ecs: str, clean: None, recorded: bool
) -> None:
    operation_id = dead_operation("capture", locks=ecs)
    name = checkpoints.mark_name(operation_id)
    backup.begin(domain(ecs), files_of(ecs), BackupPlan(since={"vda": None}, checkpoint=name))
    if recorded:
        with catalog(write=True) as session:
            row = session.get(Ecs, ecs)
            assert row is not None
            facts = DiskFacts(
                index=0, kind="system", virtual_size=1, digest="a" * 64, data_bytes=1, stored_bytes=1, new_bytes=1
            )
            record_checkpoint(session, ecs=row, name=name, facts=facts)
    assert findings(service) == [("operation.abandoned", operation_id, "repaired")]
    assert not backup.runs(domain(ecs))
    assert (name in checkpoints.names(domain(ecs))) is recorded
    assert service.ims("ecs", "show", ecs)["locked_by"] is None


def test_stale_lock_and_forgotten_backup_are_ended(service: Service, ecs: str, clean: None) -> None:
    set_ecs(ecs, locked_by=ended_operation("capture", failed=True))
    assert findings(service) == [("ecs.lock", ecs, "repaired")]
    assert service.ims("ecs", "show", ecs)["locked_by"] is None
    backup.begin(domain(ecs), files_of(ecs), BackupPlan(since={"vda": None}, checkpoint="ims-forgotten"))
    assert findings(service) == [("ecs.backup", ecs, "repaired")]
    assert not backup.runs(domain(ecs))


def test_row_follows_its_guest(service: Service, ecs: str, clean: None) -> None:
    domain(ecs).destroy()
    assert findings(service) == [("ecs.state", ecs, "repaired")]
    assert shown(service, ecs) == ("stopped", "stopped", None)
    with catalog() as session:
        change = list_audit(session, account="admin", subject_id=ecs)[0]
        kind = operation_rows(session, ids=[str(change.operation_id)])[str(change.operation_id)].kind
    assert (change.old, change.new, kind) == ("active", "stopped", "reconcile")
    domain(ecs).create()
    assert findings(service) == [("ecs.state", ecs, "repaired")]
    assert shown(service, ecs) == ("active", "running", None)


def test_paused_guest_is_reported_alone(service: Service, ecs: str, clean: None) -> None:
    domain(ecs).suspend()
    assert findings(service) == [("ecs.state", ecs, "reported")]
    assert shown(service, ecs) == ("active", "paused", None)
    domain(ecs).resume()


def test_ecs_of_a_live_operation_is_left_alone(service: Service, ecs: str, clean: None) -> None:
    with saga(Call(kind="test", account="admin", locks=ecs)):
        set_ecs(ecs, state=EcsState.STOPPED)
        assert findings(service) == []
        set_ecs(ecs, state=EcsState.ACTIVE)


def test_lost_domain_starts_again_and_lost_disks_are_an_error_until_they_are_back(
    service: Service, ecs: str, clean: None
) -> None:
    guest = domain(ecs)
    guest.destroy()
    guest.undefineFlags(FORGET)
    assert findings(service) == [("ecs.state", ecs, "repaired")]
    assert shown(service, ecs) == ("stopped", "absent", None)
    overlay = files_of(ecs).overlay(0)
    overlay.rename(overlay.with_suffix(".away"))
    assert findings(service) == [("ecs.state", ecs, "repaired")]
    assert shown(service, ecs) == ("error", "absent", "ecs.files")
    overlay.with_suffix(".away").rename(overlay)
    assert findings(service) == [("ecs.state", ecs, "repaired")]
    assert service.ims("ecs", "start", ecs)["state"] == "active"


def test_domain_of_a_deleted_ecs_is_removed(
    service: Service, sample_image: dict[str, Any], copy_domain: CopyDomain, clean: None
) -> None:
    row = new_row(sample_image, deleted=True)
    copy_domain(row)
    assert findings(service) == [("domain.stranger", row, "repaired")]
    assert left_of(row) == []


def test_unknown_domain_is_removed_on_the_operators_word_alone(service: Service, copy_domain: CopyDomain, clean: None) -> None:
    stranger = str(uuid.uuid4())
    copy_domain(stranger)
    assert findings(service) == [("domain.stranger", stranger, "reported")]
    assert len(left_of(stranger)) == 2
    assert findings(service, "--remove-strangers") == [("domain.stranger", stranger, "repaired")]
    assert left_of(stranger) == []


def test_unknown_domain_of_another_service_is_never_removed(service: Service, copy_domain: CopyDomain) -> None:
    stranger = str(uuid.uuid4())
    copy_domain(stranger)
    connection = libvirt.open("qemu:///system")
    guest = connection.lookupByName(f"ims-{stranger}")
    elsewhere = guest.XMLDesc(0).replace(f"{service.home}/ecs/", "/var/tmp/no-such-home/ecs/")
    connection.defineXML(elsewhere)
    shutil.rmtree(service.home / "ecs" / stranger)
    answer = service.ims("reconcile", "--remove-strangers")
    assert [each["action"] for each in answer["findings"] if each["subject"] == stranger] == ["reported"]
    assert guest.name() in [found.name() for found in connection.listAllDomains()]


def test_stray_folders_are_named_by_a_dry_run_and_removed_by_the_next(service: Service, ecs: str, clean: None) -> None:
    home = service.home
    resumed = home / "scratch" / ended_operation("import", failed=True)
    over = [home / "scratch" / ended_operation(kind, failed=failed) for kind, failed in (("import", False), ("export", True))]
    unknown, check = home / "scratch" / str(uuid.uuid4()), home / "ecs" / "boot-old"
    stranger = home / "ecs" / str(uuid.uuid4())
    for path in (resumed, *over, unknown, check, stranger):
        path.mkdir()
    os.utime(check, (time.time() - 90000,) * 2)
    (home / "ecs" / "boot-new").mkdir()
    gone = [*over, unknown, check]
    assert {each[2] for each in findings(service, "--dry-run")} == {"would repair", "reported"}
    assert all(path.exists() for path in (*gone, stranger))
    told = {each[1]: each[2] for each in findings(service)}
    assert told == {**{path.name: "repaired" for path in gone}, stranger.name: "reported"}
    assert [path.exists() for path in gone] == [False] * len(gone)
    assert resumed.exists()
    assert findings(service, "--remove-strangers") == [("files.stranger", stranger.name, "repaired")]
    for path in (resumed, home / "ecs" / "boot-new"):
        path.rmdir()


def test_dry_run_changes_nothing(service: Service, sample_image: dict[str, Any], ecs: str, clean: None) -> None:
    row = new_row(sample_image)
    operation_id = dead_operation("launch", subject=row)
    set_ecs(ecs, state=EcsState.STOPPED, locked_by=str(uuid.uuid4()))
    found = findings(service, "--dry-run")
    assert found == [
        ("operation.abandoned", operation_id, "would repair"),
        ("ecs.lock", ecs, "would repair"),
        ("ecs.state", ecs, "would repair"),
    ]
    assert (shown(service, row)[0], shown(service, ecs)[0]) == ("building", "stopped")
    assert service.ims("ecs", "show", ecs)["locked_by"] is not None
    assert findings(service) == [(kind, subject, "repaired") for kind, subject, _ in found]


def test_two_reconciliations_at_once_are_one(service: Service) -> None:
    with saga(Call(kind="reconcile", account="admin")):
        assert service.refused("reconcile", status=3) == "operation.busy"
