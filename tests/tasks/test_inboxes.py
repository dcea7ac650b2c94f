"""How far an object of the inbox is, by its listing and its operation; a real catalog, a bucket in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.accounts import create_account
from models.database import migrate, open_engine
from models.operations import Lease, Owner, Request, begin_operation, fail, finish, record_step
from models.trail import Actor
from tasks import inboxes
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.settings import load_settings
from tasks.inboxes import KIND, REFUSED, SETTLE, InboxView, Seen, State, find, find_all, strays, unsettled, views
from tasks.resources import catalog
from tasks.sagas import this_process

OLD = datetime.now(UTC) - 2 * SETTLE
DEAD = Owner("elsewhere", 1, "1")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMS_HOME", str(tmp_path))
    monkeypatch.setenv("IMS_DATABASE_URL", f"sqlite:///{tmp_path}/catalog.db")
    engine = open_engine(load_settings().catalog_url)
    migrate(engine)
    engine.dispose()
    with catalog(write=True) as session:
        create_account(session, name="alice", by=Actor("alice"))


def seen(**values: Any) -> Seen:
    facts = {"account": "alice", "key": "disk.raw", "size": 8, "etag": "e1", "modified": OLD, **values}
    return Seen.model_validate(facts)


def begin(of: Seen, *, by: Owner | None = None, seconds: int = 60) -> Lease:
    request = Request(kind=KIND, account=of.account, key=of.version)
    with catalog(write=True) as session:
        owner = by or this_process()
        begun = begin_operation(session, request=request, owner=owner, is_alive=lambda _: False, lease_seconds=seconds)
        assert begun.lease is not None
        return begun.lease


def refuse(of: Seen, *, sidecar: str | None = None) -> None:
    lease = begin(of)
    with catalog(write=True) as session:
        record_step(session, lease=lease, name=REFUSED, detail={"sidecar": sidecar})
        fail(session, lease=lease, code="disk.backing_file", message="no")


def state(of: Seen, **values: Any) -> State:
    return view(of, **values).state


def view(of: Seen, **values: Any) -> InboxView:
    return views("alice", [of], **values)[0]


def test_new_object_waits_for_a_sidecar_and_is_due_then() -> None:
    assert state(seen(modified=datetime.now(UTC))) is State.WAITING
    assert state(seen(modified=datetime.now(UTC), sidecar="s")) is State.DUE
    assert state(seen()) is State.DUE


def test_wait_for_a_sidecar_is_bounded_whatever_the_clocks_say() -> None:
    now = datetime.now(UTC)
    assert unsettled(seen(modified=now + timedelta(days=1)), now=now) == SETTLE
    assert unsettled(seen(modified=now - timedelta(days=1)), now=now) == timedelta(0)


def test_object_that_a_run_waits_for_is_under_way() -> None:
    assert state(seen(), waiting={("alice", "disk.raw")}) is State.UNDER_WAY
    assert state(seen(), waiting={("bob", "disk.raw"), ("alice", "other")}) is State.DUE


def test_running_operation_of_a_live_process_is_under_way_and_of_a_dead_one_due() -> None:
    begin(seen())
    assert state(seen()) is State.UNDER_WAY
    begin(seen(key="lost"), by=DEAD, seconds=-1)
    assert state(seen(key="lost")) is State.DUE


def test_done_object_is_imported_while_its_result_lies_there() -> None:
    lease = begin(seen())
    with catalog(write=True) as session:
        finish(session, lease=lease, result={"image_id": "i"})
    assert view(seen(answered=True)).model_dump(include={"state", "image_id"}) == {"state": State.IMPORTED, "image_id": "i"}
    assert state(seen()) is State.DUE


@pytest.mark.parametrize("other", [{"etag": "e2"}, {"size": 9}, {"key": "disk-2.raw"}])
def test_another_version_or_name_is_due_whatever_lies_beside(other: dict[str, Any]) -> None:
    lease = begin(seen())
    with catalog(write=True) as session:
        finish(session, lease=lease, result={"image_id": "i"})
    assert state(seen(answered=True, **other)) is State.DUE


def test_refusal_stands_while_result_and_sidecar_are_those_of_it() -> None:
    refuse(seen(), sidecar="s1")
    told = view(seen(answered=True, sidecar="s1"))
    assert (told.state, told.code, told.message) == (State.REFUSED, "disk.backing_file", "no")
    assert state(seen(answered=True, sidecar="s2")) is State.DUE
    assert state(seen(answered=True)) is State.DUE
    assert state(seen(sidecar="s1")) is State.DUE


def test_failure_that_may_pass_is_due_at_once_and_then_less_and_less_often() -> None:
    states = []
    for _ in range(4):
        lease = begin(seen())
        with catalog(write=True) as session:
            fail(session, lease=lease, code="store.unavailable", message="away")
        states.append(state(seen(answered=True)))
    assert states == [State.DUE, State.DUE, State.DUE, State.PAUSED]


def test_refusal_of_an_earlier_attempt_does_not_stand_for_a_later_one() -> None:
    refuse(seen())
    lease = begin(seen())
    with catalog(write=True) as session:
        fail(session, lease=lease, code="host.disk_full", message="full")
    assert view(seen(answered=True)).state is State.DUE


def test_listing_pairs_objects_with_what_lies_beside_them() -> None:
    bucket = MemoryObjects()
    names = ("a.raw", "a.raw.json", "a.raw-2", "b.raw", "b.raw.result.json", "c.json", "folder/", "folder/d.raw")
    for name in names:
        bucket.put(f"alice/{name}", name.encode())
    bucket.put("alice2/e.raw", b"e")
    good, bad = find_all(bucket, "alice")
    shown = {each.key: (each.sidecar is not None, each.answered) for each in good}
    assert shown == {"a.raw": (True, False), "a.raw-2": (False, False), "b.raw": (False, True), "folder/d.raw": (False, False)}
    assert bad == []
    for each in good:
        assert find(bucket, "alice", each.key) == each
    assert find(bucket, "alice", "a.ra") is None


def test_names_that_cannot_be_are_ignored_visibly() -> None:
    bucket = MemoryObjects()
    for key in ("alice/../bob", "alice/a\nb", "nobody/x", "rootless", "alice/ok"):
        bucket.put(key, b"x")
    good, bad = find_all(bucket, "alice")
    assert [each.key for each in good] == ["ok"]
    told = [*bad, *strays(bucket, {"alice"})]
    assert {each.state for each in told} == {State.IGNORED}
    assert sorted(each.key for each in told) == ["../bob", "a\nb".encode("ascii", "backslashreplace").decode(), "rootless", "x"]


def test_more_objects_than_are_looked_at_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "MAX_OBJECTS", 3)
    bucket = MemoryObjects()
    for number in range(3):
        bucket.put(f"alice/{number}.raw", b"x")
    assert find_all(bucket, "alice")[1] == []
    bucket.put("alice/3.raw", b"x")
    good, bad = find_all(bucket, "alice")
    assert ([each.key for each in good], [each.code for each in bad]) == (["0.raw", "1.raw", "2.raw"], ["quota.inbox"])
