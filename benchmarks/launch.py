"""launch.*: how long a launch takes and what it fetches, for an image of 200 MB and for one of 10 GB.

The peer downloads the whole image and converts it first. What is timed, and until when, is said in README.md and in
`launch_guests`; reading from the chunk server without a guest is `launch_server`'s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minio import Minio

from benchmarks import launch_server
from benchmarks.embedded_store import fresh_bucket
from benchmarks.imports import Bench
from benchmarks.launch_guests import Launch, Launcher
from benchmarks.launch_host import launch_host
from benchmarks.launch_images import Image, enlarge, publish, sample_guest
from benchmarks.results import RUNS, Result, median
from tasks.engine.blobs.chunks import ChunkDigest, chunk_key
from tasks.engine.blobs.manifests import manifest_key
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.blobs.s3 import connect
from tasks.engine.guests.hypervisor import Hypervisor

SMALL, LARGE = 200 * 1000**2, 10 * 1000**3
MB = 1000**2
CHUNKS, PEERS = "launch-chunks", "launch-peers"


@dataclass(frozen=True, slots=True)
class Cold:
    """A launch with nothing cached, and what the server had fetched by its end: bytes the store sent, and raw."""

    launch: Launch
    sent_bytes: int
    raw_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Round:
    """Each launch once. The large peer's is not awaited until ready: its guest would boot as the small one's does."""

    small: Cold
    small_peer: Launch
    large: Cold
    large_peer: Launch


@dataclass(frozen=True, slots=True)
class Ground:
    """What all launches work on."""

    launcher: Launcher
    chunks: ObjectStore
    client: Minio
    small: Image
    large: Image

    def round(self) -> Round:
        """All four, one after the other."""
        small, small_peer = self.pair()
        large = self._ours(self.large)
        return Round(small, small_peer, large, self._peer(self.large, until_ready=False))

    def pair(self) -> tuple[Cold, Launch]:
        """The small image, ours and the peer's."""
        return self._ours(self.small), self._peer(self.small, until_ready=True)

    def _ours(self, image: Image) -> Cold:
        launch = self.launcher.ours(image)
        host = self.launcher.host
        counters = host.counters()
        keys = [manifest_key(image.digest), *(chunk_key(ChunkDigest(bytes.fromhex(name))) for name in host.cached())]
        return Cold(launch, sum(map(self.chunks.stat, keys)), counters["fetched_bytes"], host.server_peak_bytes())

    def _peer(self, image: Image, *, until_ready: bool) -> Launch:
        return self.launcher.peer(image, client=self.client, bucket=PEERS, until_ready=until_ready)


def launch(bench: Bench) -> Iterator[Result]:
    """All rows; a first turn with the small image counts for nothing."""
    with _ground(bench) as ground:
        ground.pair()
        yield from _rows([ground.round() for _ in range(RUNS)], ground)
        yield from launch_server.rows(ground.launcher.host, ground.small, client=ground.client, bucket=PEERS)


def _rows(rounds: list[Round], ground: Ground) -> Iterator[Result]:
    yield from _times(rounds)
    for image, cold in ((ground.small, _small), (ground.large, _large)):
        runs = [cold(each) for each in rounds]
        sent = [run.sent_bytes / MB for run in runs]
        read = [run.launch.read_bytes / MB for run in runs]
        whole = [image.peer_bytes / MB] * len(runs)
        yield median(f"launch.bytes.{image.name}", zip(sent, whole, strict=True), unit="MB")
        yield median(f"launch.bytes.read.{image.name}", zip(sent, read, strict=True), unit="MB")
        raw = [run.raw_bytes / MB for run in runs]
        yield median(f"launch.bytes.raw.{image.name}", zip(raw, read, strict=True), unit="MB")
    yield median(
        "launch.server.memory", [(each.large.peak_bytes / MB, each.small.peak_bytes / MB) for each in rounds], unit="MB"
    )


def _times(rounds: list[Round]) -> Iterator[Result]:
    pairs: dict[str, Callable[[Round], tuple[float, float]]] = {
        "launch.size.200mb": lambda each: (each.small.launch.booted, each.small_peer.booted),
        "launch.size.10gb": lambda each: (each.large.launch.booted, each.large_peer.booted),
        "launch.size.ratio": lambda each: (each.large.launch.booted, each.small.launch.booted),
        "launch.size.started": lambda each: (each.large.launch.started, each.small.launch.started),
        "launch.ready": lambda each: (each.small.launch.ready, each.small_peer.ready),
        "launch.ready.ratio": lambda each: (each.large.launch.ready, each.small.launch.ready),
    }
    for name, of in pairs.items():
        yield median(name, [of(each) for each in rounds], unit="s")


def _small(each: Round) -> Cold:
    return each.small


def _large(each: Round) -> Cold:
    return each.large


@contextmanager
def _ground(bench: Bench) -> Iterator[Ground]:
    """Both images in the store, and a host, in a folder that QEMU's user can enter."""
    chunks, peers = fresh_bucket(bench.address, name=CHUNKS), fresh_bucket(bench.address, name=PEERS)
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ims-launch-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        small, large = _images(folder, chunks=chunks, peers=peers)
        with (
            launch_host(folder / "home", store=bench.address, bucket=CHUNKS) as host,
            Hypervisor(host.settings.libvirt_uri) as hypervisor,
        ):
            launcher = Launcher(host, hypervisor, kvm=host.kvm())
            yield Ground(launcher, chunks, connect(bench.address), small, large)


def _images(folder: Path, *, chunks: ObjectStore, peers: ObjectStore) -> tuple[Image, Image]:
    guest = sample_guest(folder / "guest.raw")
    small = enlarge(guest, folder / "200mb.raw", data_bytes=SMALL)
    small_image = publish("200mb", small, chunks=chunks, peers=peers)
    large = enlarge(guest, folder / "10gb.raw", data_bytes=LARGE)
    return small_image, publish("10gb", large, chunks=chunks, peers=peers)
