"""A bucket notification, as MinIO and S3 post it, and the Prefect event that it becomes.

Nothing in it is believed but which object to look at. Format: docs.aws.amazon.com, "Event message structure".
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.engine.errors import RequestRefused
from tasks.engine.inbox.names import Place, is_beside, place_of

CREATED = ("s3:ObjectCreated:", "ObjectCreated:")
EVENT = "ims.inbox.object"
MAX_RECORDS = 1000
IDS = uuid.UUID("6b7c6f3e-1f0f-4c55-9a7b-0d2f6a2f7f11")
"""Namespace of the events' ids: the same notification posted again is the same event."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Bucket(_Message):
    name: str = Field(min_length=1, max_length=255)


class _Object(_Message):
    key: str = Field(min_length=1, max_length=4096)
    size: int = Field(0, ge=0)
    etag: str = Field("", max_length=256, alias="eTag")
    sequencer: str = Field("", max_length=256)


class _S3(_Message):
    bucket: _Bucket
    object: _Object


class _Record(_Message):
    event: str = Field(max_length=128, alias="eventName")
    s3: _S3


class _Notification(_Message):
    records: list[_Record] = Field(max_length=MAX_RECORDS, alias="Records")


class Announced(NamedTuple):
    """One object that the store says was put; size in bytes."""

    place: Place
    size: int
    etag: str
    sequencer: str


class Notice(NamedTuple):
    """What a notification says: objects to look at, and how many of its records are none of the inbox's business."""

    objects: list[Announced]
    ignored: int


def read_notice(body: bytes, *, bucket: str) -> Notice:
    """Raises RequestRefused(notification) for what is no notification; a record that means no upload is counted as ignored."""
    try:
        records = _Notification.model_validate_json(body).records
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise RequestRefused("notification", f"{where}: {first['msg']}") from error
    objects = [found for record in records if (found := _announced(record, bucket)) is not None]
    return Notice(objects, len(records) - len(objects))


def events_of(objects: Iterable[Announced]) -> list[dict[str, Any]]:
    """The Prefect events, as its API takes them."""
    return [_event(each) for each in objects]


def resource_of(place: Place) -> str:
    """The event's resource: one of its own for each object, of bounded length whatever the object is called."""
    return f"ims.inbox.{place.account}.{hashlib.sha256(place.name.encode()).hexdigest()[:32]}"


def _announced(record: _Record, bucket: str) -> Announced | None:
    if not record.event.startswith(CREATED) or record.s3.bucket.name != bucket:
        return None
    try:
        place = place_of(unquote_plus(record.s3.object.key, errors="strict"))
    except (RequestRefused, UnicodeDecodeError):
        return None
    found = record.s3.object
    return None if is_beside(place.name) else Announced(place, found.size, found.etag.strip('"'), found.sequencer)


def _event(found: Announced) -> dict[str, Any]:
    account, key = found.place
    same = "\0".join((account, key, found.etag, str(found.size), found.sequencer))
    return {
        # Without a sequencer two puts of the same bytes could not be told apart, and the second would be no event at all.
        "id": str(uuid.uuid5(IDS, same) if found.sequencer else uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": resource_of(found.place), "prefect.resource.name": f"{account}/{key}"},
        "related": [{"prefect.resource.id": f"ims.account.{account}", "prefect.resource.role": "owner"}],
        "payload": {"account": account, "key": key, "size": found.size, "etag": found.etag},
    }
