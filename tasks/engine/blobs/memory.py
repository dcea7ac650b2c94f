"""A bucket in this process's memory: the twin of `s3.py` for tests and for measuring without one. Nothing survives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.engine.blobs.objects import Missing, ObjectInfo, checked_length, refused_bucket


class MemoryObjects:
    """An ObjectStore in a dict; `exists=False` is a bucket nobody created."""

    def __init__(self, *, bucket: str = "memory", exists: bool = True) -> None:
        self.bucket = bucket
        self._exists = exists
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    def ping(self) -> None:
        if not self._exists:
            raise refused_bucket(self.bucket)

    def create(self) -> None:
        self._exists = True

    def put(self, key: str, body: bytes) -> None:
        self.ping()
        self._objects[key] = (bytes(body), datetime.now(UTC))

    def get(self, key: str, *, limit: int) -> bytes:
        body = self._found(key)
        checked_length(key, len(body), limit=limit)
        return body

    def stat(self, key: str) -> int:
        return len(self._found(key))

    def delete(self, key: str) -> None:
        self.ping()
        self._objects.pop(key, None)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        self.ping()
        for key in sorted(self._objects):
            if key.startswith(prefix) and key > after and (entry := self._objects.get(key)):
                yield ObjectInfo(key, len(entry[0]), entry[1], hashlib.sha256(entry[0]).hexdigest()[:32])

    def upload(self, key: str, source: Path) -> None:
        self.put(key, source.read_bytes())

    def download(self, key: str, target: Path) -> None:
        target.write_bytes(self._found(key))

    def presign(self, key: str, *, seconds: int) -> str:
        return f"memory://{self.bucket}/{key}?seconds={seconds}"

    def _found(self, key: str) -> bytes:
        self.ping()
        try:
            return self._objects[key][0]
        except KeyError:
            raise Missing(key) from None
