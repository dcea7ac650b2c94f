"""What a notification is taken for."""

from __future__ import annotations

import json

import pytest
from notices import notification, record

from tasks.engine.errors import RequestRefused
from tasks.engine.inbox.notification import Place, events_of, read_notice


def read(*records: dict[str, object]) -> tuple[list[Place], int]:
    notice = read_notice(json.dumps(notification(*records)).encode(), bucket="ims-inbox")
    return [found.place for found in notice.objects], notice.ignored


def test_upload_is_announced_with_its_name_decoded() -> None:
    assert read(record("alice/my folder/dïsk+1.raw")) == ([Place("alice", "my folder/dïsk+1.raw")], 0)


@pytest.mark.parametrize(
    "ignored",
    [
        record("alice/x", event="s3:ObjectRemoved:Delete"),
        record("alice/x", event="s3:ObjectAccessed:Get"),
        record("alice/x", bucket="ims-images"),
        record("alice/x.raw.json"),
        record("alice/x.raw.result.json"),
        record("alice/../bob/x"),
        record("x"),
        record("alice/x\ny"),
        record("", raw="alice/%ff"),
    ],
)
def test_what_is_no_upload_is_ignored_beside_one_that_is(ignored: dict[str, object]) -> None:
    assert read(ignored, record("alice/disk.raw")) == ([Place("alice", "disk.raw")], 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"{" * 100_000,
        b'{"Records": [{}]}',
        b'{"Records": [{"eventName": 1}]}',
        json.dumps(notification(record("alice/x", size=-1))).encode(),
        json.dumps(notification(record("x" * 5000))).encode(),
        json.dumps(notification(*[record("alice/x")] * 1001)).encode(),
    ],
)
def test_what_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_notice(body, bucket="ims-inbox")
    assert refused.value.code == "request.notification"


def test_same_notification_is_the_same_event_and_another_put_another() -> None:
    ids = []
    for sequencer in ("1", "1", "2"):
        notice = read_notice(json.dumps(notification(record("a/x", sequencer=sequencer))).encode(), bucket="ims-inbox")
        ids.append(events_of(notice.objects)[0]["id"])
    assert ids[0] == ids[1] != ids[2]


def test_event_carries_what_a_trigger_needs() -> None:
    notice = read_notice(json.dumps(notification(record("alice/disk.raw"))).encode(), bucket="ims-inbox")
    (event,) = events_of(notice.objects)
    assert event["event"] == "ims.inbox.object"
    assert event["payload"] == {"account": "alice", "key": "disk.raw", "size": 8, "etag": "d41d8"}
    assert event["resource"]["prefect.resource.id"].startswith("ims.inbox.alice.")
