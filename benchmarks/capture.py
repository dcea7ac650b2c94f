"""capture.*: what it costs to capture a guest of 3 GB whose disk changed by 50 MB since the last capture.

The peer exports the whole disk. What is timed and what is not is said in README.md; both sides are in `capturing`.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from minio import Minio

from benchmarks.capture_guests import CHANGE, Guest, launched
from benchmarks.capturing import Captured, Series, capture_overlay, whole
from benchmarks.embedded_store import empty, fresh_bucket
from benchmarks.importing import import_disk
from benchmarks.imports import Bench
from benchmarks.launch_guests import Launcher
from benchmarks.launch_host import launch_host
from benchmarks.launch_images import enlarge, sample_guest
from benchmarks.peers import compress_and_upload
from benchmarks.results import RUNS, Result, median, seconds
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.pipeline import Ingested
from tasks.engine.blobs.s3 import connect
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.hypervisor import Hypervisor
from tasks.engine.guests.overlay import create_overlay
from tasks.engine.inspection.generalizing import generalize
from tasks.engine.inspection.guestfs import DiskSource, InspectionLimits, inspect, warm_appliance

DATA = 3 * 1000**3
MB = 1000**2
CHUNKS, PEERS = "capture-chunks", "capture-peers"

ROTATION = 2
"""Files of 50 MB for which the guest's root has room."""

SERIES = 10
FREEZES = 20
SENT_LIMIT = 1.3
SERIES_LIMIT = 1.2
FROZEN_LIMIT = 1.0
GENERALIZE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Ground:
    """What all captures work on: the image in `chunks`, the peer's bucket, a host, a scratch folder."""

    launcher: Launcher
    chunks: ObjectStore
    peers: ObjectStore
    client: Minio
    image: Ingested
    folder: Path

    def guest(self, *, rotation: int) -> AbstractContextManager[Guest]:
        """A new guest of the image."""
        size = self.image.virtual_size
        return launched(self.launcher, self.image.manifest_digest, virtual_size=size, rotation=rotation)

    def peer(self, source: str, *, form: str) -> float:
        """Seconds that the export of a whole disk takes, which is then removed."""
        taken = seconds(lambda: compress_and_upload(source, form=form, scratch=self.folder, client=self.client, bucket=PEERS))
        empty(self.peers)
        return taken

    def stored_bytes(self) -> int:
        """All that is in the bucket, chunks and manifests."""
        return sum(info.size for info in self.chunks.list(""))


def capture(bench: Bench) -> Iterator[Result]:
    """All rows."""
    with _ground(bench) as ground:
        with ground.guest(rotation=ROTATION) as guest:
            series = Series(guest, ground.chunks, ground.image.manifest_digest)
            base = ground.stored_bytes()
            yield from _second(ground, series)
            yield _series(ground, series, base)
            yield from _frozen(series)
        yield _stopped(ground)
        yield from _generalised(ground, series.parent)


def _second(ground: Ground, series: Series) -> Iterator[Result]:
    """The captures after the first, whose turn counts for nothing."""
    rounds = [_round(ground, series) for _ in range(RUNS + 1)][1:]
    yield median("capture.second", [(ours.seconds, peer) for ours, peer in rounds], unit="s")
    sent = [ours.sent_bytes(ground.chunks) / MB for ours, _ in rounds]
    limits = [SENT_LIMIT * ours.dirty_bytes(ground.chunks) / MB for ours, _ in rounds]
    yield median("capture.second.sent", zip(sent, limits, strict=True), unit="MB")
    least = -(-CHANGE // CHUNK_SIZE)
    yield median("capture.second.dirty", [(len(ours.dirty), least) for ours, _ in rounds], unit="chunks")


def _round(ground: Ground, series: Series) -> tuple[Captured, float]:
    """The same state of the guest, captured and exported."""
    series.guest.change()
    ours = series.capture()
    with whole(series.guest) as address:
        return ours, ground.peer(address, form="raw")


def _series(ground: Ground, series: Series, base: int) -> Result:
    """Captures until there are SERIES, and what the bucket then holds beside the limit."""
    for _ in range(SERIES - RUNS - 1):
        series.guest.change()
        series.capture()
    limit = base + SERIES_LIMIT * SERIES * CHANGE
    return Result("capture.series", ground.stored_bytes() / MB, limit / MB, "MB", 1)


def _frozen(series: Series) -> Iterator[Result]:
    """How long the guest stood still, while it was writing."""
    with series.guest.writing():
        frozen = [series.capture().frozen for _ in range(FREEZES)]
    yield Result("capture.frozen.median", statistics.median(frozen), FROZEN_LIMIT, "s", FREEZES)
    yield Result("capture.frozen.worst", max(frozen), FROZEN_LIMIT, "s", FREEZES)


def _stopped(ground: Ground) -> Result:
    """A guest of its own, that overwrites the same file in every turn; the first turn counts for nothing."""
    pairs = []
    with ground.guest(rotation=1) as guest:
        overlay = guest.files.overlay(0)
        for turn in range(RUNS + 1):
            if turn:
                guest.start()
            guest.change()
            guest.stop()
            ours = capture_overlay(overlay, ground.chunks, ground.image.manifest_digest)
            pairs.append((ours.seconds, ground.peer(str(overlay), form="qcow2")))
    return median("capture.stopped", pairs[1:], unit="s")


def _generalised(ground: Ground, digest: ManifestDigest) -> Iterator[Result]:
    """A captured disk without its guest's identity: beside an inspection, which starts the same appliance; what it adds."""
    socket, overlay = ground.launcher.host.settings.exports_socket, ground.folder / "generalised.qcow2"
    limits = InspectionLimits(kvm=ground.launcher.kvm, timeout_seconds=GENERALIZE_SECONDS)
    size = ground.image.virtual_size
    backing = Backing(socket=socket, export=digest, virtual_size=size)

    def remove() -> None:
        create_overlay(overlay, backing=backing, virtual_size=size)
        generalize([overlay], limits)

    warm_appliance(limits)
    inspected = seconds(lambda: inspect([DiskSource(socket, digest)], limits))
    removed = seconds(remove)
    stored = capture_overlay(overlay, ground.chunks, digest)
    yield Result("capture.generalised", removed + stored.seconds, inspected, "s", 1)
    added, touched = stored.sent_bytes(ground.chunks), stored.dirty_bytes(ground.chunks)
    yield Result("capture.generalised.extra", added / MB, touched / MB, "MB", 1)


@contextmanager
def _ground(bench: Bench) -> Iterator[Ground]:
    """The image in the store, and a host that serves it, in a folder that QEMU's user can enter."""
    chunks, peers = fresh_bucket(bench.address, name=CHUNKS), fresh_bucket(bench.address, name=PEERS)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ims-capture-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        image = _image(folder, chunks)
        with (
            launch_host(folder / "home", store=bench.address, bucket=CHUNKS) as host,
            Hypervisor(host.settings.libvirt_uri) as hypervisor,
        ):
            host.restart_agent()
            yield Ground(Launcher(host, hypervisor, kvm=host.kvm()), chunks, peers, connect(bench.address), image, folder)


def _image(folder: Path, chunks: ObjectStore) -> Ingested:
    """The sample guest with 3 GB of data."""
    disk = enlarge(sample_guest(folder / "guest.raw"), folder / "3gb.raw", data_bytes=DATA)
    image = import_disk(disk, chunks)
    disk.unlink()
    return image
