"""The service's buckets from its settings. Nothing is connected until the first call."""

from __future__ import annotations

from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.s3 import S3Address, open_bucket
from tasks.engine.settings import Settings


def open_named_bucket(settings: Settings, bucket: str) -> ObjectStore:
    """One of the service's buckets: settings.images_bucket, inbox_bucket or exports_bucket."""
    address = S3Address(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
        ca_file=str(settings.ca_file) if settings.ca_file else None,
    )
    return open_bucket(address, bucket)
