"""Background fill: once an ECS runs, the rest of its disk is fetched at low priority so that it stops needing the store.

Anyone asks by leaving a file named by the manifest's digest in the requests folder; the file goes when the disk is whole
in the cache, or as whole as the cache's free space allows (filling never evicts). Requests survive a restart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tasks.engine.blobs.chunks import ChunkDigest
from tasks.engine.blobs.manifest import Manifest
from tasks.engine.errors import ImsError
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.serving.fetching import ChunkFetcher

IDLE_SECONDS = 0.05
POLL_SECONDS = 0.5


def request_fill(folder: Path, digest: str) -> None:
    """Ask this host's server to fetch the whole of the disk whose manifest is `digest`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest).touch()


class Filler(threading.Thread):
    """Works through the requests folder, one chunk at a time, yielding to every guest that waits for a chunk."""

    def __init__(self, folder: Path, fetcher: ChunkFetcher, open_disk: Callable[[str], Manifest]) -> None:
        super().__init__(name="fill", daemon=True)
        self._folder = folder
        self._fetcher = fetcher
        self._open_disk = open_disk
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for request in sorted(self._folder.glob("*")):
                self._fill(request)

    def _fill(self, request: Path) -> None:
        """A failure leaves the request for the next round: the store may be back by then."""
        try:
            for _, digest in self._open_disk(request.name).entries():
                if self._stopping.is_set() or self._fetcher.cache.free_bytes < CHUNK_SIZE:
                    break
                self._fill_chunk(digest)
        except ImsError:
            self._stopping.wait(5)
            return
        if not self._stopping.is_set():
            request.unlink(missing_ok=True)

    def _fill_chunk(self, digest: ChunkDigest) -> None:
        while self._fetcher.idle_seconds() < IDLE_SECONDS and not self._stopping.wait(IDLE_SECONDS / 2):
            pass
        if digest not in self._fetcher.cache:
            self._fetcher.get(digest, filling=True)
