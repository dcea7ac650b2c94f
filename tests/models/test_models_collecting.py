"""What writers and collectors tell each other in the catalog, step by step; every interleaving is test_collecting_races."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from catalog_rows import Catalog, race
from sqlmodel import Session, select

from models.collecting import (
    Hold,
    begin_collection,
    clear_damaged,
    damaged_objects,
    grant,
    hold_disk,
    mark_damaged,
    publish,
    referenced_digests,
    register_writer,
    settle,
    spare,
    store_gate,
    take_over,
)
from models.ecs import Readiness, delete_ecs, mark_ready, mark_standalone
from models.exceptions import FieldInvalid, LeaseLost
from models.images import delete_image
from models.known import holders_of, newest_digests
from models.operations import Lease, Owner, Request, begin_operation, bind_subject, fail, finish
from models.store_tables import CondemnedObject, HeldDisk, StoreWriter
from models.tables import Operation
from models.trail import Actor
from models.vocabulary import BootProof, Fate

ALICE = Actor("alice")
READY = Readiness(ready_by=BootProof.AGENT, seconds_to_ready=1.0, accelerator="tcg", standalone=False)
AT = datetime(2030, 1, 1, tzinfo=UTC)
DISK = "e" * 64
OWN = f"manifests/{DISK}"
CHUNKS = [f"chunks/{name}{name}/{name * 64}" for name in "0123"]
KEYS = [OWN, *CHUNKS[:2]]


def begun(session: Session, *, kind: str = "import", key: str = "k1", owner: int = 1) -> Lease:
    request = Request(kind=kind, account="alice", key=key)
    found = begin_operation(session, request=request, owner=Owner("here", owner, "1"), is_alive=lambda _: False)
    assert found.lease is not None
    return found.lease


def importing(catalog: Catalog, session: Session, *, key: str = "k1") -> Lease:
    """A run that makes an image."""
    lease = begun(session, key=key)
    bind_subject(session, lease=lease, subject_id=catalog.queued(session, key).id)
    return lease


def held(
    session: Session, lease: Lease, token: str, *, keys: Collection[str] = KEYS, proved: Mapping[str, int] | None = None
) -> Hold:
    return hold_disk(session, lease=lease, token=token, digest=DISK, keys=keys, proved=proved or {})


def condemned(session: Session) -> dict[str, Fate]:
    return {row.key: row.fate for row in session.exec(select(CondemnedObject).execution_options(populate_existing=True))}


def collected(session: Session, keys: Collection[str], *, lease: Lease | None = None) -> Lease:
    """A collector that deleted these and said so."""
    lease = lease or begun(session, kind="collect", key="gc")
    publish(session, lease=lease, keys=keys)
    assert grant(session, lease=lease, keys=keys, at=AT) == set(keys)
    settle(session, lease=lease, keys=keys)
    return lease


def test_held_disk_is_referenced_until_its_operation_is_done(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = importing(catalog, session)
        token = register_writer(session, lease=lease).token
        assert referenced_digests(session) == set()
        assert held(session, lease, token) == Hold(0, frozenset(), frozenset())
        assert referenced_digests(session) == {DISK}
        finish(session, lease=lease, result={})
        assert referenced_digests(session) == set()
        assert (catalog.count(session, HeldDisk), catalog.count(session, StoreWriter)) == (0, 0)


def test_held_disk_of_a_failed_operation_stays_until_its_image_is_deleted(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = importing(catalog, session)
        held(session, lease, register_writer(session, lease=lease).token)
        image = session.get_one(Operation, lease.operation_id).subject_id
        fail(session, lease=lease, code="x", message="y")
        assert referenced_digests(session) == {DISK}
        delete_image(session, image_id=image or "", by=ALICE)
        assert referenced_digests(session) == set()


def test_holds_of_a_deleted_image_do_not_come_back_with_the_next_one(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = importing(catalog, session)
        held(session, lease, register_writer(session, lease=lease).token)
        delete_image(session, image_id=session.get_one(Operation, lease.operation_id).subject_id or "", by=ALICE)
        bind_subject(session, lease=lease, subject_id=catalog.queued(session, "again").id)
        assert referenced_digests(session) == set()


def test_hold_needs_an_image(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = begun(session)
        token = register_writer(session, lease=lease).token
        with pytest.raises(FieldInvalid):
            held(session, lease, token)


def test_published_objects_are_taken_back_by_whoever_holds_them(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = begun(session, kind="collect", key="gc")
        publish(session, lease=collector, keys=CHUNKS)
        assert held(session, writer, token) == Hold(0, frozenset(), frozenset())
        assert grant(session, lease=collector, keys=CHUNKS, at=AT) == set(CHUNKS[2:])


def test_granted_objects_are_waited_for_and_then_doubted(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = begun(session, kind="collect", key="gc")
        publish(session, lease=collector, keys=CHUNKS)
        grant(session, lease=collector, keys=CHUNKS, at=AT)
        assert held(session, writer, token) == Hold(0, frozenset(), frozenset(CHUNKS[:2]))
        assert settle(session, lease=collector, keys=CHUNKS) == 4
        assert held(session, writer, token) == Hold(1, frozenset(CHUNKS[:2]), frozenset())
        assert held(session, writer, token, proved={CHUNKS[0]: 1}) == Hold(1, frozenset(CHUNKS[1:2]), frozenset())
        assert not held(session, writer, token, proved=dict.fromkeys(CHUNKS[:2], 1)).doubtful


def test_proof_is_worth_nothing_after_another_deletion(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = collected(session, CHUNKS[:1])
        collected(session, CHUNKS[:1], lease=collector)
        assert held(session, writer, token, proved={CHUNKS[0]: 1}).doubtful == {CHUNKS[0]}


def test_writer_that_began_later_hears_of_nothing_earlier(catalog: Catalog) -> None:
    with catalog.write() as session:
        collected(session, CHUNKS)
        writer = importing(catalog, session)
        assert not held(session, writer, register_writer(session, lease=writer).token).doubtful


def test_deletions_are_remembered_as_long_as_a_writer_may_ask(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = collected(session, CHUNKS[2:])
        assert set(condemned(session)) == set(CHUNKS[2:])
        held(session, writer, token)
        collected(session, CHUNKS[:1], lease=collector)
        assert condemned(session) == {}


def test_failed_writer_is_remembered_for_no_longer(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        register_writer(session, lease=writer)
        fail(session, lease=writer, code="x", message="y")
        collected(session, CHUNKS)
        assert condemned(session) == {}


def test_attempt_that_was_taken_over_holds_nothing(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = importing(catalog, session)
        token = register_writer(session, lease=old).token
        begun(session, owner=2)
    with catalog.write() as session, pytest.raises(LeaseLost):
        held(session, old, token)
    with catalog.write() as session, pytest.raises(LeaseLost):
        register_writer(session, lease=old)


def test_disk_that_another_disk_of_the_run_replaced_is_not_held(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = importing(catalog, session)
        token = register_writer(session, lease=lease).token
        register_writer(session, lease=lease)
        with pytest.raises(LeaseLost):
            held(session, lease, token)


def test_collector_that_was_taken_over_is_granted_nothing(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = begun(session, kind="collect", key="gc")
        publish(session, lease=old, keys=CHUNKS)
        begun(session, kind="collect", key="gc", owner=2)
    with catalog.write() as session, pytest.raises(LeaseLost):
        grant(session, lease=old, keys=CHUNKS, at=AT)


def test_collector_begins_with_what_the_last_one_left(catalog: Catalog) -> None:
    with catalog.write() as session:
        old = begun(session, kind="collect", key="gc")
        publish(session, lease=old, keys=CHUNKS)
        grant(session, lease=old, keys=CHUNKS[:1], at=AT)
        new = begun(session, kind="collect", key="gc2")
        left = begin_collection(session, lease=new)
        assert left == [CHUNKS[0]]
        assert session.get_one(CondemnedObject, CHUNKS[0]).granted_at == AT
        assert condemned(session) == {CHUNKS[0]: Fate.GRANTED}
        publish(session, lease=new, keys=CHUNKS)
        assert grant(session, lease=new, keys=CHUNKS, at=AT) == set(CHUNKS[1:])
        later = AT + timedelta(minutes=5)
        assert take_over(session, lease=new, keys=CHUNKS[:1], before=later, at=later) == {CHUNKS[0]}
        settle(session, lease=new, keys=CHUNKS)
        assert condemned(session) == {}


def test_one_writer_takes_over_what_a_collector_left_long_ago(catalog: Catalog) -> None:
    later = AT + timedelta(minutes=5)
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = begun(session, kind="collect", key="gc")
        publish(session, lease=collector, keys=CHUNKS[:1])
        grant(session, lease=collector, keys=CHUNKS[:1], at=AT)
        assert take_over(session, lease=writer, keys=CHUNKS[:1], before=AT, at=later) == set()
        assert take_over(session, lease=writer, keys=CHUNKS[:1], before=later, at=later) == {CHUNKS[0]}
        assert take_over(session, lease=writer, keys=CHUNKS[:1], before=later, at=later) == set()
        assert take_over(session, lease=collector, keys=CHUNKS[:1], before=later, at=later) == set()
        settle(session, lease=writer, keys=CHUNKS[:1])
        assert held(session, writer, token).doubtful == {CHUNKS[0]}


def test_spared_objects_are_not_granted(catalog: Catalog) -> None:
    with catalog.write() as session:
        lease = begun(session, kind="collect", key="gc")
        publish(session, lease=lease, keys=CHUNKS)
        spare(session, lease=lease, keys=CHUNKS[1:])
        assert grant(session, lease=lease, keys=CHUNKS, at=AT) == {CHUNKS[0]}


def test_thousands_of_objects_go_through(catalog: Catalog) -> None:
    keys = [f"chunks/{number % 256:02x}/{number:064x}" for number in range(12_000)]
    with catalog.write() as session:
        lease = begun(session, kind="collect", key="gc")
        publish(session, lease=lease, keys=keys)
        spare(session, lease=lease, keys=keys[:6000])
        assert grant(session, lease=lease, keys=keys, at=AT) == set(keys[6000:])
        assert settle(session, lease=lease, keys=keys[6000:]) == 0


def test_damage_is_told_to_writers_until_it_is_read_well_again(catalog: Catalog) -> None:
    with catalog.write() as session:
        mark_damaged(session, found={CHUNKS[0]: "bad", CHUNKS[3]: "bad"})
        writer = importing(catalog, session)
        registered = register_writer(session, lease=writer)
        assert registered.damaged == {CHUNKS[0], CHUNKS[3]}
        assert held(session, writer, registered.token).doubtful == {CHUNKS[0]}
        assert not held(session, writer, registered.token, proved={CHUNKS[0]: registered.epoch}).doubtful
        assert [row.key for row in damaged_objects(session)] == [CHUNKS[3]]


def test_damage_found_after_the_proof_stays(catalog: Catalog) -> None:
    with catalog.write() as session:
        epoch = store_gate(session).epoch
        mark_damaged(session, found={CHUNKS[0]: "bad"})
        clear_damaged(session, keys=CHUNKS, epoch=epoch)
        assert [row.key for row in damaged_objects(session)] == [CHUNKS[0]]
        clear_damaged(session, keys=CHUNKS, epoch=epoch + 1)
        assert damaged_objects(session) == []


def test_hold_and_publication_at_once_are_one_after_the_other(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = begun(session, kind="collect", key="gc")

    def write() -> None:
        with catalog.write() as session:
            held(session, writer, token)

    def condemn() -> None:
        with catalog.write() as session:
            publish(session, lease=collector, keys=CHUNKS)

    assert race([write, condemn]) == [None, None]
    with catalog.write() as session:
        left = set(condemned(session))
        assert referenced_digests(session) == {DISK}
        assert left in (set(CHUNKS), set(CHUNKS[2:]))


def test_hold_and_grant_at_once_have_one_winner_for_all_objects(catalog: Catalog) -> None:
    with catalog.write() as session:
        writer = importing(catalog, session)
        token = register_writer(session, lease=writer).token
        collector = begun(session, kind="collect", key="gc")
        publish(session, lease=collector, keys=CHUNKS[:2])
    answers: dict[str, set[str]] = {}

    def write() -> None:
        with catalog.write() as session:
            answers["going"] = set(held(session, writer, token).going)

    def delete() -> None:
        with catalog.write() as session:
            answers["granted"] = grant(session, lease=collector, keys=CHUNKS[:2], at=AT)

    assert race([write, delete]) == [None, None]
    assert answers["going"] == answers["granted"]
    assert answers["going"] in (set(), set(CHUNKS[:2]))
    with catalog.read() as session:
        assert (DISK in referenced_digests(session)) == (not answers["going"])


def test_digests_stay_referenced_while_an_ecs_lies_over_them(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session, digest="c" * 64)
        ecs = catalog.building(session, image)
        mark_ready(session, ecs=ecs, readiness=READY, by=ALICE)
        delete_image(session, image_id=image.id, by=ALICE)
        assert referenced_digests(session) == {"c" * 64}
        delete_ecs(session, ecs=ecs, by=ALICE)
        assert referenced_digests(session) == set()


def test_standalone_ecs_needs_no_digest(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        ecs = catalog.building(session, image)
        mark_ready(session, ecs=ecs, readiness=READY, by=ALICE)
        mark_standalone(session, ecs=ecs)
        assert referenced_digests(session) == {"a" * 64}
        delete_image(session, image_id=image.id, by=ALICE)
        assert referenced_digests(session) == set()


def test_disks_of_deleted_images_are_still_known(catalog: Catalog) -> None:
    with catalog.write() as session:
        assert newest_digests(session) == []
        image = catalog.active(session, digest="c" * 64)
        delete_image(session, image_id=image.id, by=ALICE)
        assert (newest_digests(session), referenced_digests(session)) == (["c" * 64], set())


def test_holders_are_images_and_guests_that_are_not_deleted(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session, "web", digest="c" * 64)
        gone = catalog.active(session, "gone", digest="c" * 64)
        ecs = catalog.building(session, image)
        delete_image(session, image_id=gone.id, by=ALICE)
        found = holders_of(session, digests={"c" * 64, "d" * 64})
        assert [(each.kind, each.id, each.digest) for each in found] == [
            ("image", image.id, "c" * 64),
            ("ecs", ecs.id, "c" * 64),
        ]
