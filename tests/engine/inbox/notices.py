"""Notifications as MinIO posts them. No tests here."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus


def record(
    key: str, *, bucket: str = "ims-inbox", event: str = "s3:ObjectCreated:Put", raw: str = "", **values: Any
) -> dict[str, Any]:
    """One record, with the fields that MinIO sends beside those that count; `raw` is a key that is encoded already."""
    found = {"key": raw or quote_plus(key), "size": 8, "eTag": "d41d8", "sequencer": "17AB", "versionId": "1", **values}
    return {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-26T12:00:00.000Z",
        "eventName": event,
        "userIdentity": {"principalId": "minio"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "minio"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": found,
        },
    }


def notification(*records: dict[str, Any]) -> dict[str, Any]:
    return {"EventName": "s3:ObjectCreated:Put", "Key": "ims-inbox/x", "Records": list(records)}
