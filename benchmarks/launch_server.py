"""launch.server.*: the whole of a disk read from the chunk server by nbdcopy, without a guest.

Peers: nbdkit's own file server over the same disk as a raw file, and the download that a whole image needs otherwise.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minio import Minio

from benchmarks.launch_guests import download
from benchmarks.launch_host import Host, wait_until
from benchmarks.launch_images import Image
from benchmarks.results import RUNS, Result, alternate, median, seconds
from deployments.embedded.agent import serves_nbd
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.s3 import open_bucket

READERS = 10
NOWHERE = "null:"
MB = 1000**2


def rows(host: Host, image: Image, *, client: Minio, bucket: str) -> Iterator[Result]:
    """From a cold cache, from a warm one, and by ten readers at once."""
    folder = host.settings.home
    address = _address(host.settings.exports_socket, image.digest)

    def cold() -> float:
        host.restart_agent()
        return seconds(lambda: _copy(address, str(folder / "copy.raw")))

    def peer() -> float:
        return seconds(lambda: download(image, folder, client=client, bucket=bucket))

    yield alternate("launch.server.cold", ours=cold, peer=peer)
    disk = folder / "image.raw"
    with _file_server(disk, folder / "file.sock") as plain:
        yield alternate("launch.server.warm", ours=lambda: _timed(address), peer=lambda: _timed(plain))
    yield from _readers(host, image, address)


def _readers(host: Host, image: Image, address: str) -> Iterator[Result]:
    """What READERS fetch together, beside what the disk has; and the server's memory, beside that of one reader."""
    manifest = get_manifest(open_bucket(host.store, host.bucket), image.digest)
    distinct = len({digest for _, digest in manifest.entries()})
    many, one = zip(*((_cold_reads(host, address, READERS), _cold_reads(host, address, 1)) for _ in range(RUNS)), strict=True)
    yield median("launch.server.readers", [(fetched, distinct) for fetched, _ in many], unit="chunks")
    peaks = [(of_many / MB, of_one / MB) for (_, of_many), (_, of_one) in zip(many, one, strict=True)]
    yield median("launch.server.readers.memory", peaks, unit="MB")


def _cold_reads(host: Host, address: str, readers: int) -> tuple[int, int]:
    """(chunks fetched, the server's peak memory) after so many have read the whole disk at once."""
    host.restart_agent()
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(lambda _: _copy(address, NOWHERE), range(readers)))
    counters: dict[str, Any] = host.counters()
    return counters["fetched_chunks"], host.server_peak_bytes()


@contextmanager
def _file_server(disk: Path, socket: Path) -> Iterator[str]:
    command = ["nbdkit", "--foreground", "--readonly", "--unix", str(socket), "--threads", "16", "file", str(disk)]
    server = subprocess.Popen(command)
    try:
        wait_until(lambda: serves_nbd(socket), seconds=10)
        yield _address(socket, "")
    finally:
        server.terminate()
        server.wait()


def _address(socket: Path, export: str) -> str:
    return f"nbd+unix:///{export}?socket={socket}"


def _timed(address: str) -> float:
    return seconds(lambda: _copy(address, NOWHERE))


def _copy(address: str, target: str) -> None:
    subprocess.run(["nbdcopy", address, target], check=True)
