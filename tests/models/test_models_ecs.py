"""ECSs and flavors, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, system_disk

from models.ecs import (
    NewEcs,
    Readiness,
    create_ecs,
    delete_ecs,
    ecs_on_host,
    fail_ecs,
    get_ecs,
    list_ecs,
    mark_ready,
    move_ecs,
)
from models.exceptions import FieldInvalid, NameInvalid, NotVisible, TransitionRefused
from models.image_changes import record_disk
from models.states import transition
from models.tables import GIB, Ecs
from models.trail import Actor
from models.vocabulary import Architecture, BootProof, DiskKind, EcsState, ImageState

ALICE, BOB = Actor("alice"), Actor("bob")
READY = Readiness(ready_by=BootProof.AGENT, seconds_to_ready=4.5, accelerator="tcg")


def test_launch_is_recorded_from_building_to_ready(catalog: Catalog) -> None:
    with catalog.write() as session:
        ecs = catalog.building(session, catalog.active(session))
        assert (ecs.state, ecs.disk_gib, ecs.disks[0].base_digest) == (EcsState.BUILDING, 2, "a" * 64)
        mark_ready(session, ecs=ecs, readiness=READY, by=ALICE)
    with catalog.read() as session:
        found = get_ecs(session, account="alice", ecs_id=ecs.id)
    assert (found.state, found.ready_by, found.seconds_to_ready) == (EcsState.ACTIVE, BootProof.AGENT, 4.5)
    assert (found.accelerator, found.disks[0].size_bytes) == ("tcg", 2 * GIB)


def test_another_accounts_ecs_is_absent(catalog: Catalog) -> None:
    with catalog.write() as session:
        ecs = catalog.building(session, catalog.active(session))
        assert [row.id for row in list_ecs(session, account="alice").rows] == [ecs.id]
        assert list_ecs(session, account="bob").rows == []
        with pytest.raises(NotVisible):
            get_ecs(session, account="bob", ecs_id=ecs.id)


def test_image_of_another_account_does_not_launch(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        with pytest.raises(NotVisible):
            catalog.building(session, image, owner="bob")


def test_image_that_is_not_active_does_not_launch(catalog: Catalog) -> None:
    with catalog.write() as session:
        with pytest.raises(TransitionRefused):
            catalog.building(session, catalog.queued(session))
        image = catalog.active(session)
        transition(session, subject=image, new=ImageState.DEACTIVATED, by=ALICE)
        with pytest.raises(TransitionRefused) as caught:
            catalog.building(session, image)
    assert (caught.value.kind, caught.value.old) == ("image", "deactivated")


def test_disk_smaller_than_the_image_is_refused_to_the_byte(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        record_disk(session, image=image, facts=system_disk(virtual_size=2 * GIB + 512))
        with pytest.raises(FieldInvalid, match=r"2 GiB is 2147483648 bytes; the image needs 2147484160, so at least 3 GiB"):
            create_ecs(session, new=NewEcs(name="w", image_id=image.id, host="here", disk_gib=2), by=ALICE)
        ecs = create_ecs(session, new=NewEcs(name="w", image_id=image.id, host="here", disk_gib=9), by=ALICE)
    assert ecs.disks[0].size_bytes == 9 * GIB


@pytest.mark.parametrize(
    ("flavor", "change"),
    [("tiny", {"min_memory_mib": 512}), ("large", {"architecture": Architecture.I686})],
)
def test_flavor_that_does_not_fit_is_refused(catalog: Catalog, flavor: str, change: dict[str, object]) -> None:
    with catalog.write() as session:
        image = catalog.active(session).sqlmodel_update(change)
        session.flush()
        with pytest.raises(FieldInvalid, match="flavor"):
            create_ecs(session, new=NewEcs(name="w", image_id=image.id, host="here", flavor=flavor), by=ALICE)


def test_unknown_flavor_and_bad_name_are_refused(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        with pytest.raises(NotVisible, match="flavor"):
            create_ecs(session, new=NewEcs(name="w", image_id=image.id, host="here", flavor="huge"), by=ALICE)
        with pytest.raises(NameInvalid):
            catalog.building(session, image, name="a\nb")


def test_image_of_data_disks_alone_does_not_launch(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        record_disk(session, image=image, facts=system_disk().model_copy(update={"kind": DiskKind.DATA}))
        with pytest.raises(FieldInvalid, match="system disk"):
            catalog.building(session, image)


def test_data_disks_are_launched_at_their_own_size(catalog: Catalog) -> None:
    data = system_disk(digest="b" * 64, virtual_size=GIB).model_copy(update={"index": 1, "kind": DiskKind.DATA})
    with catalog.write() as session:
        image = catalog.active(session)
        record_disk(session, image=image, facts=data)
        ecs = catalog.building(session, image)
    assert [(str(disk.base_digest)[0], disk.size_bytes) for disk in ecs.disks] == [("a", 2 * GIB), ("b", GIB)]


def test_ecs_stops_starts_fails_and_is_built_again(catalog: Catalog) -> None:
    with catalog.write() as session:
        ecs = catalog.building(session, catalog.active(session))
        mark_ready(session, ecs=ecs, readiness=READY, by=ALICE)
        move_ecs(session, ecs=ecs, new=EcsState.STOPPED, by=ALICE)
        move_ecs(session, ecs=ecs, new=EcsState.ACTIVE, by=ALICE)
        fail_ecs(session, ecs=ecs, code="host.qemu", message="gone", by=ALICE)
        assert (ecs.state, ecs.error_code) == (EcsState.ERROR, "host.qemu")
        move_ecs(session, ecs=ecs, new=EcsState.BUILDING, by=ALICE)
        assert (ecs.state, ecs.error_code) == (EcsState.BUILDING, None)


def test_deleted_ecs_is_gone_from_lists_and_host(catalog: Catalog) -> None:
    with catalog.write() as session:
        ecs = catalog.building(session, catalog.active(session))
        assert [row.id for row in ecs_on_host(session, host="here")] == [ecs.id]
        delete_ecs(session, ecs=ecs, by=ALICE)
        assert ecs_on_host(session, host="here") == []
        assert session.get_one(Ecs, ecs.id).deleted_at is not None
        with pytest.raises(NotVisible):
            get_ecs(session, account="alice", ecs_id=ecs.id)
