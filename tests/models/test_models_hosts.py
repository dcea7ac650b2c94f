"""Hosts and the choice of one for an ECS: refusals, preference, and launches that race; on both databases."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from catalog_rows import Catalog, race
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from models.ecs import NewEcs, create_ecs, delete_ecs, fail_ecs, mark_ready, move_ecs
from models.ecs import Readiness as Ready
from models.exceptions import FieldInvalid, HostRefused, NameTaken, NotVisible
from models.flavors import get_flavor
from models.host_tables import Host
from models.hosts import (
    MAX_CACHED,
    SILENT_SECONDS,
    NewHost,
    Report,
    add_host,
    drain_host,
    ensure_host,
    get_host,
    is_silent,
    list_hosts,
    living_there,
    reachable_uri,
    record_report,
    remove_host,
    resume_host,
)
from models.placement import CLAIMING, Need, claims_of, place, room_of
from models.tables import Ecs, utc_now
from models.trail import Actor, list_audit
from models.vocabulary import BootProof, EcsState, HostState

ADMIN = Actor("admin")
SMALL = 1024
"""MiB of the flavor small."""


def add(session: Session, name: str, *, memory: int = 8 * SMALL, cached: tuple[str, ...] = (), free: int | None = None) -> Host:
    """A host that has just reported."""
    add_host(session, new=NewHost(name=name, uri="qemu:///system", pool=name), by=ADMIN)
    report = Report(memory_mib=memory, available_mib=memory if free is None else free, cached=cached)
    return record_report(session, name=name, report=report)


def launch(session: Session, image_id: str, *, flavor: str = "small", host: str | None = None) -> Ecs:
    """What a launch does in the transaction that makes its row."""
    need = Need(memory_mib=get_flavor(session, name=flavor).memory_mib)
    chosen = place(session, need=need, wanted=host)
    return create_ecs(session, new=NewEcs(name="web", image_id=image_id, host=chosen.name, flavor=flavor), by=Actor("alice"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(HostRefused) as refused:
        call()
    return refused.value.reason


@pytest.fixture
def image_id(catalog: Catalog) -> str:
    with catalog.write() as session:
        return catalog.active(session).id


def test_host_is_added_once_and_its_trail_is_the_operators(catalog: Catalog) -> None:
    with catalog.write() as session:
        add(session, "one")
        with pytest.raises(NameTaken):
            add(session, "one")
        kept = ensure_host(session, new=NewHost(name="one", uri="qemu:///system", pool="one"), by=ADMIN)
        assert (kept.uri, kept.pool) == ("qemu:///system", "one")
    with catalog.read() as session:
        assert [(row.kind, row.new) for row in list_audit(session, account="admin", subject_id="one")] == [("host", "added")]
        assert [host.name for host in list_hosts(session)] == ["one"]


def test_address_that_others_can_use_is_not_replaced_by_one_that_they_cannot(catalog: Catalog) -> None:
    with catalog.write() as session:
        add(session, "one")
        assert reachable_uri(session, name="one") is None
        ensure_host(session, new=NewHost(name="one", uri="qemu+ssh://one/system", pool="one"), by=ADMIN)
        host = ensure_host(session, new=NewHost(name="one", uri="qemu:///system", pool="other"), by=ADMIN)
        assert (host.uri, host.pool) == ("qemu+ssh://one/system", "other")
        assert reachable_uri(session, name="one") == host.uri


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a b", "a%b", "x" * 64, "ä"])
def test_name_that_no_address_takes_is_refused(catalog: Catalog, name: str) -> None:
    with catalog.write() as session, pytest.raises(FieldInvalid):
        add_host(session, new=NewHost(name=name, uri="x", pool="x"), by=ADMIN)


def test_report_of_a_host_that_was_never_added_is_refused(catalog: Catalog) -> None:
    with catalog.write() as session, pytest.raises(NotVisible):
        record_report(session, name="nowhere", report=Report(memory_mib=1, available_mib=1))


def test_report_keeps_few_digests(catalog: Catalog) -> None:
    with catalog.write() as session:
        add(session, "one", cached=tuple(f"{number:064}" for number in range(200)))
    with catalog.read() as session:
        assert len(get_host(session, name="one").cached) == MAX_CACHED


def test_most_room_wins_and_a_disk_at_hand_before_it(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        add(session, "large", memory=9 * SMALL)
        add(session, "small", memory=2 * SMALL, cached=("a" * 64,))
        assert place(session, need=Need(memory_mib=SMALL)).name == "large"
        assert place(session, need=Need(memory_mib=SMALL, digests=["a" * 64])).name == "small"
        assert place(session, need=Need(memory_mib=3 * SMALL, digests=["a" * 64])).name == "large"
        assert place(session, need=Need(memory_mib=SMALL, digests=["a" * 64]), but=["small"]).name == "large"
        assert place(session, need=Need(memory_mib=SMALL), wanted="small").name == "small"


def test_refusals_say_why(catalog: Catalog) -> None:
    need = Need(memory_mib=SMALL)
    with catalog.write() as session:
        assert refusal(lambda: place(session, need=need)) == "none"
        with pytest.raises(NotVisible):
            place(session, need=need, wanted="nowhere")
        host = add(session, "one", memory=SMALL - 1)
        assert refusal(lambda: place(session, need=need)) == "full"
        assert refusal(lambda: place(session, need=need, wanted="one")) == "full"
        host.seen_at = utc_now() - timedelta(seconds=SILENT_SECONDS + 1)
        assert is_silent(host)
        session.add(host)
        session.flush()
        assert refusal(lambda: place(session, need=need)) == "silent"
        drain_host(session, name="one", by=ADMIN)
        assert refusal(lambda: place(session, need=need, wanted="one")) == "draining"


def test_drained_host_takes_launches_again_when_it_is_resumed(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        add(session, "one")
        drain_host(session, name="one", by=ADMIN)
        drain_host(session, name="one", by=ADMIN)
        assert refusal(lambda: launch(session, image_id)) == "draining"
        assert resume_host(session, name="one", by=ADMIN).state is HostState.ACTIVE
        assert launch(session, image_id).host == "one"


def test_host_is_removed_when_its_last_ecs_is_deleted(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        add(session, "one")
        ecs = launch(session, image_id)
        assert [row.id for row in living_there(session, name="one")] == [ecs.id]
        assert refusal(lambda: remove_host(session, name="one", by=ADMIN)) == "in_use"
        delete_ecs(session, ecs=ecs, by=Actor("alice"))
        remove_host(session, name="one", by=ADMIN)
        with pytest.raises(NotVisible):
            get_host(session, name="one")


def test_lost_host_goes_with_its_ecs_once_it_is_silent_and_nothing_is_under_way(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        host = add(session, "one")
        ecs, other = launch(session, image_id), launch(session, image_id)
        assert refusal(lambda: remove_host(session, name="one", lost=True, by=ADMIN)) == "reporting"
        host.seen_at = utc_now() - timedelta(seconds=SILENT_SECONDS + 1)
        session.add(host)
        session.flush()
        assert refusal(lambda: remove_host(session, name="one", by=ADMIN)) == "in_use"
        assert refusal(lambda: remove_host(session, name="one", lost=True, by=ADMIN)) == "busy"
        for each in (ecs, other):
            fail_ecs(session, ecs=each, code="operation.abandoned", message="its host was cut off", by=ADMIN)
        other.locked_by = "some operation"
        session.add(other)
        session.flush()
        assert refusal(lambda: remove_host(session, name="one", lost=True, by=ADMIN)) == "busy"
        other.locked_by = None
        gone = remove_host(session, name="one", lost=True, by=ADMIN)
        assert {each.id for each in gone} == {ecs.id, other.id}
        assert {each.state for each in gone} == {EcsState.DELETED}
        with pytest.raises(NotVisible):
            get_host(session, name="one")


def test_memory_is_claimed_until_the_ecs_is_deleted_or_in_error(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        host = add(session, "one")
        ecs = launch(session, image_id)

        def left() -> int:
            return room_of(host, claims_of(session, names=["one"])["one"])

        assert left() == 7 * SMALL
        mark_ready(session, ecs=ecs, readiness=Ready(ready_by=BootProof.AGENT, seconds_to_ready=1, accelerator="tcg"), by=ADMIN)
        move_ecs(session, ecs=ecs, new=EcsState.STOPPED, by=ADMIN)
        assert left() == 7 * SMALL
        fail_ecs(session, ecs=ecs, code="c", message="m", by=ADMIN)
        assert left() == 8 * SMALL


def test_what_the_last_report_cannot_have_seen_counts_against_what_was_free(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        add(session, "one", free=2 * SMALL)
        launch(session, image_id)
        launch(session, image_id)
        assert refusal(lambda: launch(session, image_id)) == "full"
        record_report(session, name="one", report=Report(memory_mib=8 * SMALL, available_mib=SMALL))
        launch(session, image_id)


@pytest.mark.parametrize("wanted", [None, "one"])
def test_launches_that_race_never_share_the_last_memory(catalog: Catalog, image_id: str, wanted: str | None) -> None:
    with catalog.write() as session:
        add(session, "one", memory=3 * SMALL)
        if wanted is None:
            add(session, "two", memory=2 * SMALL)

    def attempt() -> None:
        with catalog.write() as session:
            launch(session, image_id, host=wanted)

    outcomes = race([attempt] * 8)
    room = 3 if wanted else 5
    assert sum(outcome is None for outcome in outcomes) == room
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, HostRefused)} == {"full"}
    with catalog.read() as session:
        hosts = {ecs.host for ecs in session.exec(select(Ecs)).all()}
    assert hosts == ({"one"} if wanted else {"one", "two"})


def test_launch_that_races_with_a_drain_is_there_before_it_or_refused(catalog: Catalog, image_id: str) -> None:
    with catalog.write() as session:
        add(session, "one")

    def attempt() -> None:
        with catalog.write() as session:
            launch(session, image_id)

    def drain() -> None:
        with catalog.write() as session:
            drain_host(session, name="one", by=ADMIN)
        with catalog.read() as session:
            seen.append(len(living_there(session, name="one")))

    seen: list[int] = []
    race([attempt, attempt, drain, attempt])
    with catalog.read() as session:
        assert [len(living_there(session, name="one"))] == seen


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["launch", "delete", "drain", "resume", "report"]), st.integers(0, 2)), max_size=25
    )
)
def test_no_order_of_steps_overcommits_or_launches_on_a_drained_host(
    catalog: Catalog, image_id: str, steps: list[tuple[str, int]]
) -> None:
    """Whatever happens in whatever order: the claims of a host never exceed it, and a drained one gains nothing."""
    names = ["a", "b", "c"]
    with catalog.write() as session:
        for place_, name in enumerate(names):
            add(session, name, memory=(place_ + 1) * SMALL)
        for verb, number in steps:
            _step(session, image_id, verb, names[number])
            claims = claims_of(session, names=names)
            for host in list_hosts(session):
                assert claims[host.name].all_mib <= host.memory_mib
        session.rollback()


def _step(session: Session, image_id: str, verb: str, name: str) -> None:
    state = get_host(session, name=name).state
    before = len(living_there(session, name=name))
    steps: dict[str, Callable[[], object]] = {
        "launch": partial(launch, session, image_id, host=name),
        "delete": partial(_delete_one, session, name),
        "drain": partial(drain_host, session, name=name, by=ADMIN),
        "resume": partial(resume_host, session, name=name, by=ADMIN),
        "report": partial(_report, session, name),
    }
    with suppress(HostRefused):
        steps[verb]()
    assert state is HostState.ACTIVE or len(living_there(session, name=name)) <= before


def _delete_one(session: Session, name: str) -> None:
    for ecs in living_there(session, name=name)[:1]:
        delete_ecs(session, ecs=ecs, by=ADMIN)


def _report(session: Session, name: str) -> None:
    memory = get_host(session, name=name).memory_mib
    free = memory - SMALL * sum(ecs.state in CLAIMING for ecs in living_there(session, name=name))
    record_report(session, name=name, report=Report(memory_mib=memory, available_mib=free))
