"""Which exported files a run removes. Their bucket is in memory here, because a server gives no object an age."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from catalog_home import Home

from models.operations import Owner, Request, begin_operation
from models.tables import utc_now
from models.trail import list_audit
from tasks import exported
from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.settings import load_settings
from tasks.exported import ExportsView, exports_markdown, key_of, remove_expired, url_seconds
from tasks.resources import catalog
from tasks.sagas import Saga


@pytest.fixture
def bucket(home: Home, monkeypatch: pytest.MonkeyPatch) -> MemoryObjects:
    bucket = MemoryObjects()
    monkeypatch.setattr(exported, "exports_bucket", lambda: bucket)
    return bucket


def operation(kind: str = "export", *, account: str = "alice") -> Saga:
    with catalog(write=True) as session:
        request = Request(kind=kind, account=account, key=str(uuid.uuid4()))
        begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
    return Saga(operation_id=begun.operation.id, account=account, kind=kind, lease=begun.lease)


def put(bucket: MemoryObjects, key: str, *, days: float) -> str:
    bucket.put(key, b"12345")
    body, _ = bucket._objects[key]
    bucket._objects[key] = body, utc_now() - timedelta(days=days)
    return key


def export(bucket: MemoryObjects, *, days: float, name: str = "web.qcow2") -> str:
    return put(bucket, key_of("alice", operation().operation_id, name), days=days)


def run(days: int | None = None) -> ExportsView:
    view: ExportsView = remove_expired.fn(operation("expire-exports", account="admin"), days)
    return view


def keys(bucket: MemoryObjects) -> list[str]:
    return [found.key for found in bucket.list("")]


def test_files_go_when_their_time_is_up(bucket: MemoryObjects) -> None:
    old, young = export(bucket, days=7.01), export(bucket, days=6.99)
    view = run()
    assert ([file.key for file in view.removed], keys(bucket)) == ([old], [young])
    assert (view.days, view.kept, view.kept_bytes, view.strangers) == (7, 1, 5, 0)


def test_second_run_has_nothing_to_do(bucket: MemoryObjects) -> None:
    export(bucket, days=8)
    run()
    view = run()
    assert (view.removed, view.kept) == ([], 0)


def test_setting_and_parameter_say_when(bucket: MemoryObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    export(bucket, days=3)
    assert run().removed == []
    monkeypatch.setenv("IMS_EXPORT_DAYS", "2")
    assert len(run().removed) == 1
    export(bucket, days=0)
    assert len(run(0).removed) == 1


def test_what_no_export_wrote_is_left_alone(bucket: MemoryObjects) -> None:
    foreign = [
        put(bucket, key, days=100)
        for key in (
            "report.pdf",
            "alice/report.pdf",
            f"alice/{uuid.uuid4()}/web.raw",
            f"bob/{operation().operation_id}/web.raw",
            f"alice/{operation('import').operation_id}/web.raw",
            f"alice/{operation().operation_id}/deep/web.raw",
            f"x/alice/{operation().operation_id}/web.raw",
        )
    ]
    view = run(0)
    assert (view.removed, view.strangers, keys(bucket)) == ([], len(foreign), sorted(foreign))


def test_owner_finds_the_removal_in_the_trail(bucket: MemoryObjects) -> None:
    key = export(bucket, days=9)
    run()
    with catalog() as session:
        row = list_audit(session, account="alice", subject_id=key.split("/")[1])[0]
    assert (row.kind, row.who, row.old, row.new) == ("export", "admin", "kept", "expired")
    assert row.detail == {"file": "web.qcow2", "size": 5}


def test_run_is_bounded_and_the_next_one_goes_on(bucket: MemoryObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "MOST", 130)
    owner = operation().operation_id
    for number in range(250):
        put(bucket, key_of("alice", owner, f"{number}.raw"), days=9)
    views = [run(), run(), run()]
    assert [len(view.removed) for view in views] == [130, 120, 0]
    assert [view.kept for view in views] == [120, 0, 0]
    assert "the most that one run removes" in exports_markdown(views[0])
    assert "And 80 more" in exports_markdown(views[0])


def test_run_that_lost_its_lease_removes_nothing(bucket: MemoryObjects) -> None:
    from models.operations import fail
    from tasks.engine.errors import ImsError

    key, saga = export(bucket, days=9), operation("expire-exports", account="admin")
    with catalog(write=True) as session:
        fail(session, lease=saga.held, code="defect", message="taken over")
    with pytest.raises(ImsError):
        remove_expired.fn(saga, None)
    assert keys(bucket) == [key]


@pytest.mark.parametrize(("days", "told"), [("1", 86400), ("7", 604800), ("30", 604800)])
def test_address_lives_as_long_as_the_file_or_a_week(home: Home, monkeypatch: pytest.MonkeyPatch, days: str, told: int) -> None:
    monkeypatch.setenv("IMS_EXPORT_DAYS", days)
    assert url_seconds(load_settings()) == told
