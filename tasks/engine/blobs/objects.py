"""The bucket, as the rest of the project sees it: ten small verbs over named byte strings, and what can go wrong.

Not S3 itself: `s3.py` speaks that, `memory.py` is its twin for tests, `retrying.py` wraps either. Chunks and
manifests are built on these verbs in `chunks.py` and `manifest.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from tasks.engine.errors import Damaged, Refused, StateRefused

PAGE_SIZE = 1000
"""Keys that one listing request returns at most; S3's own limit."""


class ObjectInfo(NamedTuple):
    """One object of a listing: key, size in bytes, time of its last put, and the store's word for its content."""

    key: str
    size: int
    modified: datetime
    etag: str = ""


class Missing(Refused):
    """The bucket answers, and holds no object of this key."""

    code = "store.missing"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the store holds no object {key}", remedy="It was deleted or never finished; import again.")

    def __reduce__(self) -> tuple[type[Missing], tuple[str]]:
        return type(self), (self.key,)


class ObjectStore(Protocol):
    """One bucket. Every call may raise StoreUnavailable, or StateRefused (`store.credentials`, `store.bucket`)."""

    def ping(self) -> None:
        """Return when the bucket exists and these credentials may use it."""

    def create(self) -> None:
        """Make the bucket; nothing happens where it exists."""

    def put(self, key: str, body: bytes) -> None:
        """Store `body`, replacing what the key held; readers see the old body or the new one, never a part."""

    def get(self, key: str, *, limit: int) -> bytes:
        """The body. Raises Missing, or Damaged where it is longer than `limit` bytes."""

    def stat(self, key: str) -> int:
        """Size of the body in bytes. Raises Missing."""

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where it is absent."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose keys begin with `prefix` and sort behind `after`, ascending; a page is PAGE_SIZE."""

    def upload(self, key: str, source: Path) -> None:
        """Store a file of any size, in parts, with bounded memory."""

    def download(self, key: str, target: Path) -> None:
        """Write the body to the new file `target`, which appears only when whole. Raises Missing."""

    def presign(self, key: str, *, seconds: int) -> str:
        """An address that serves the object to anyone for `seconds`."""


def refused_bucket(bucket: str) -> StateRefused:
    """What every store says when its bucket does not exist."""
    return StateRefused("store", "bucket", f"the store has no bucket {bucket!r}", remedy="Run `ims up`, or create the bucket.")


def checked_length(key: str, length: int, *, limit: int) -> int:
    """`length`, unless the body is longer than anything the caller stored under such a key."""
    if length > limit:
        raise Damaged(f"object {key} has {length} bytes where at most {limit} can be right")
    return length
