"""The store that `ims up` starts, started for a measurement in a folder of its own, on ports of its own."""

from __future__ import annotations

import secrets
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from deployments.embedded import seaweed, services
from deployments.embedded.site import Site
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.s3 import S3Address, open_bucket
from tasks.engine.settings import Settings

WARMING_PUTS = 64
"""Enough that a bucket has all the volumes SeaweedFS gives it: that happens once in a bucket's life, not at every import."""


@contextmanager
def embedded_store(home: Path) -> Iterator[S3Address]:
    """Its address, until the block ends."""
    settings = Settings(
        home=home,
        s3_endpoint=f"127.0.0.1:{_free_port()}",
        s3_access_key="bench",
        s3_secret_key=SecretStr(secrets.token_hex(16)),
    )
    site = Site(settings=settings, login="", embeds_s3=True, embeds_prefect=False)
    for folder in ("s3", "run", "logs"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    services.start(home, seaweed.service(site, seaweed.prepare(site)))
    try:
        yield S3Address(settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key.get_secret_value())
    finally:
        services.stop(home, "s3", seconds=20)
        seaweed.remove_sockets(home)


def fresh_bucket(address: S3Address, *, name: str = "") -> ObjectStore:
    """An empty bucket whose volumes exist."""
    bucket = open_bucket(address, name or f"bench-{uuid.uuid4().hex[:12]}")
    bucket.create()
    for number in range(WARMING_PUTS):
        bucket.put(f"warming/{number}", b"x")
        bucket.delete(f"warming/{number}")
    return bucket


def empty(bucket: ObjectStore) -> None:
    """Delete all that is in a bucket, so that the next run sends everything again."""
    for info in list(bucket.list("")):
        bucket.delete(info.key)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
