"""What the host's NBD server holds between requests: opened disks, the fetcher, the filler and its published counters.

The nbdkit plugin (`tasks.engine.serving.plugin`) is a thin shell around one `ChunkServer`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.serving.counters import write_counters
from tasks.engine.serving.exports import DiskExport
from tasks.engine.serving.fetching import ChunkFetcher
from tasks.engine.serving.filling import Filler

DIGEST = re.compile(r"[0-9a-f]{64}")
PUBLISH_SECONDS = 0.5


class ChunkServer:
    """Exports of one host by manifest digest. `load_manifest` gives a verified manifest or raises an ImsError."""

    def __init__(self, run_folder: Path, fetcher: ChunkFetcher, load_manifest: Callable[[ManifestDigest], Manifest]) -> None:
        self._run_folder = run_folder
        self._fetcher = fetcher
        self._load_manifest = load_manifest
        self._lock = threading.Lock()
        self._manifests: dict[str, Manifest] = {}
        self._exports: dict[str, DiskExport] = {}
        self._filler = Filler(run_folder / "fill", fetcher, self._manifest)
        self._stopping = threading.Event()
        self._started = time.time()

    def start(self) -> None:
        """Start the background threads; nbdkit calls this after it has forked."""
        self._filler.start()
        threading.Thread(target=self._publish_forever, name="publish", daemon=True).start()

    def open(self, digest: str) -> DiskExport:
        """The export of the disk with this manifest digest. Raises ValueError for a name that is none, or an ImsError."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"export name {digest[:80]!r} is not a manifest digest")
        with self._lock:
            export = self._exports.get(digest)
        if export is None:
            export = DiskExport(self._manifest(digest), self._fetcher.get)
            with self._lock:
                export = self._exports.setdefault(digest, export)
        return export

    def stop(self) -> None:
        self._stopping.set()
        self._filler.stop()

    def _manifest(self, digest: str) -> Manifest:
        with self._lock:
            manifest = self._manifests.get(digest)
        if manifest is None:
            manifest = self._load_manifest(ManifestDigest(digest))
            with self._lock:
                self._manifests[digest] = manifest
        return manifest

    def _publish_forever(self) -> None:
        last = ""
        while not self._stopping.wait(PUBLISH_SECONDS):
            if (text := self._counters()) != last:
                write_counters(self._run_folder, text)
                last = text

    def _counters(self) -> str:
        with self._lock:
            read = {digest: export.bytes_read for digest, export in self._exports.items()}
        cache = self._fetcher.cache
        held = {"cache_bytes": cache.used_bytes, "cache_capacity": cache.capacity, "read": read, "started": self._started}
        return json.dumps({**asdict(self._fetcher.counts), **held})
