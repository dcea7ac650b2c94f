"""What a run notes on its image and what an owner switches on it, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, system_disk

from models.exceptions import FieldInvalid, TransitionRefused
from models.facts import BootReport, GuestFacts, whole_gib
from models.image_changes import (
    activate_image,
    fail_image,
    forget_disks,
    record_boot,
    record_disk,
    record_guest,
    requeue_image,
    set_active,
    set_protected,
)
from models.images import NewImage, create_image, get_image
from models.states import transition
from models.tables import GIB, Image
from models.trail import Actor, list_audit
from models.vocabulary import BootProof, DiskKind, ImageState

ALICE = Actor("alice")


@pytest.mark.parametrize(("size", "gib"), [(0, 0), (1, 1), (2 * GIB, 2), (2 * GIB + 512, 3)])
def test_whole_gib_never_cuts_a_disk(size: int, gib: int) -> None:
    assert whole_gib(size) == gib


def test_detected_facts_beat_declared_ones_and_both_stay(catalog: Catalog) -> None:
    declared = GuestFacts(os_distro="centos", os_version="7")
    with catalog.write() as session:
        image = create_image(session, new=NewImage(name="web", size=1, declared=declared), by=ALICE)
        record_guest(session, image=image, detected=GuestFacts(os_type="linux", os_distro="debian"), format="vmdk")
    with catalog.read() as session:
        found = session.get_one(Image, image.id)
    assert (found.os_type, found.os_distro, found.os_version, found.format) == ("linux", "debian", "7", "vmdk")
    assert found.declared == {"os_distro": "centos", "os_version": "7"}
    assert found.detected == {"os_type": "linux", "os_distro": "debian"}


def test_boot_report_is_kept(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        assert image.boot_proof is BootProof.UNCHECKED
        record_boot(session, image=image, report=BootReport(BootProof.LOGIN, {"console": "web login:\x00"}))
    with catalog.read() as session:
        found = session.get_one(Image, image.id)
    assert (found.boot_proof, found.boot_detail) == (BootProof.LOGIN, {"console": "web login:\x00"})


def test_disk_noted_again_replaces_the_first(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        for digest in ("a" * 64, "b" * 64):
            record_disk(session, image=image, facts=system_disk(digest=digest))
        assert [disk.digest for disk in image.disks] == ["b" * 64]
        forget_disks(session, image=image)
        assert image.disks == []


def test_fifth_disk_and_second_system_disk_are_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        for change in ({"index": 4, "kind": DiskKind.DATA}, {"index": 1}):
            with pytest.raises(FieldInvalid):
                record_disk(session, image=image, facts=system_disk().model_copy(update=change))


def test_activation_needs_stored_disks(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
            transition(session, subject=image, new=state, by=ALICE)
        with pytest.raises(FieldInvalid):
            activate_image(session, image=image, by=ALICE)


def test_activation_raises_the_minimum_disk_to_the_virtual_size(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
            transition(session, subject=image, new=state, by=ALICE)
        record_disk(session, image=image, facts=system_disk(virtual_size=2 * GIB + 512))
        activate_image(session, image=image, by=ALICE)
    assert (image.state, image.min_disk_gib) == (ImageState.ACTIVE, 3)


def test_failed_image_keeps_its_reason_until_retried(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        fail_image(session, image=image, code="disk.encrypted", message="nul \x00, half \udcff", by=ALICE)
    with catalog.write() as session:
        found = get_image(session, account="alice", image_id=image.id)
        assert (found.state, found.error_code, found.error_message) == ("error", "disk.encrypted", "nul \ufffd, half ?")
        requeue_image(session, image=found, by=ALICE)
        assert (found.state, found.error_code, found.error_message) == ("queued", None, None)


def test_interrupted_image_starts_over_but_an_active_one_does_not(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        transition(session, subject=image, new=ImageState.TRANSFERRING, by=ALICE)
        requeue_image(session, image=image, by=ALICE)
        assert image.state is ImageState.QUEUED
        with pytest.raises(TransitionRefused):
            requeue_image(session, image=catalog.active(session), by=ALICE)


def test_deactivated_image_comes_back(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        assert set_active(session, image_id=image.id, active=False, by=ALICE).state is ImageState.DEACTIVATED
        with pytest.raises(TransitionRefused):
            set_active(session, image_id=image.id, active=False, by=ALICE)
        assert set_active(session, image_id=image.id, active=True, by=ALICE).state is ImageState.ACTIVE


def test_switch_is_on_the_trail_once(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.queued(session)
        for _ in range(2):
            set_protected(session, image_id=image.id, protected=True, by=ALICE)
    with catalog.read() as session:
        newest, _created = list_audit(session, account="alice", subject_id=image.id)
    assert (newest.old, newest.new) == ("protected=False", "protected=True")


def test_trail_is_shown_to_the_subjects_owner_alone(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
    with catalog.read() as session:
        assert list_audit(session, account="bob", subject_id=image.id) == []
        whole = list_audit(session, account="alice", subject_id=image.id)
        rest = list_audit(session, account="alice", subject_id=image.id, before=whole[0].id, limit=2)
    assert [row.id for row in rest] == [row.id for row in whole[1:3]]
