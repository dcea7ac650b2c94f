"""What writers of disks and the garbage collector say to the catalog, each sentence in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

from models import collecting
from models.operations import Lease
from models.rows import utc_now
from tasks.engine.blobs.keeping import QUIET_SECONDS, Verdict
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.resources import catalog


class CatalogLedger:
    """A writer's `Ledger` for one disk of the operation that the lease is for."""

    def __init__(self, lease: Lease, *, now: Callable[[], datetime] = utc_now) -> None:
        self._lease, self._now = lease, now
        self._token = ""

    def register(self) -> frozenset[str]:
        with catalog(write=True) as session:
            registered = collecting.register_writer(session, lease=self._lease)
        self._token = registered.token
        return registered.damaged

    def hold(self, digest: ManifestDigest, keys: Collection[str], *, proved: Mapping[str, int]) -> Verdict:
        with catalog(write=True) as session:
            held = collecting.hold_disk(session, lease=self._lease, token=self._token, digest=digest, keys=keys, proved=proved)
        return Verdict(*held)

    def take_over(self, key: str) -> bool:
        return key in _take_over(self._lease, [key], now=self._now())

    def settle(self, key: str) -> None:
        with catalog(write=True) as session:
            collecting.settle(session, lease=self._lease, keys=[key])


class CatalogRegistry:
    """A collector's `Registry` under its operation's lease."""

    def __init__(self, lease: Lease | None, *, now: Callable[[], datetime] = utc_now) -> None:
        self._given, self._now = lease, now

    @property
    def _lease(self) -> Lease:
        if self._given is None:
            raise ValueError("a collector that changes nothing has no lease")
        return self._given

    def references(self) -> set[ManifestDigest]:
        with catalog() as session:
            return {ManifestDigest(digest) for digest in collecting.referenced_digests(session)}

    def begin(self) -> Sequence[str]:
        with catalog(write=True) as session:
            return collecting.begin_collection(session, lease=self._lease)

    def publish(self, keys: Collection[str]) -> None:
        with catalog(write=True) as session:
            collecting.publish(session, lease=self._lease, keys=keys)

    def spare(self, keys: Collection[str]) -> None:
        with catalog(write=True) as session:
            collecting.spare(session, lease=self._lease, keys=keys)

    def grant(self, keys: Collection[str]) -> set[str]:
        with catalog(write=True) as session:
            return collecting.grant(session, lease=self._lease, keys=keys, at=self._now())

    def take_over(self, keys: Collection[str]) -> set[str]:
        return _take_over(self._lease, keys, now=self._now())

    def settle(self, keys: Collection[str]) -> int:
        with catalog(write=True) as session:
            return collecting.settle(session, lease=self._lease, keys=keys)


def _take_over(lease: Lease, keys: Collection[str], *, now: datetime) -> set[str]:
    before = now - timedelta(seconds=QUIET_SECONDS)
    with catalog(write=True) as session:
        return collecting.take_over(session, lease=lease, keys=keys, before=before, at=now)
