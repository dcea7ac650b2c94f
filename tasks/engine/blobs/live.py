"""The chunks that disks refer to, as a set on disk: ten million of them would not fit into a small host's memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from tasks.engine.blobs.chunks import ChunkDigest
from tasks.engine.blobs.manifest import Manifest

BATCH = 10_000
CACHE_KIB = 64 << 10


class LiveChunks:
    """A set of digests in a temporary file below `folder`, which goes when the set is closed. For one thread."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="live-", suffix=".db", dir=folder)  # noqa: SIM115  # closed by close()
        self._db = sqlite3.connect(self._file.name, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE live (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> LiveChunks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        self._file.close()

    def __len__(self) -> int:
        count: int = self._db.execute("SELECT count(*) FROM live").fetchone()[0]
        return count

    def add(self, manifest: Manifest) -> None:
        """Take in every chunk of a disk."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR IGNORE INTO live VALUES (?)", ((digest,) for _, digest in manifest.entries()))
        self._db.execute("COMMIT")

    def among(self, digests: Sequence[ChunkDigest]) -> set[ChunkDigest]:
        """Those of at most `BATCH` digests that are in the set."""
        marks = ",".join("?" * len(digests))
        found = self._db.execute(f"SELECT digest FROM live WHERE digest IN ({marks})", digests)  # noqa: S608  # marks only
        return {ChunkDigest(digest) for (digest,) in found}

    def under(self, folder: int) -> Iterable[ChunkDigest]:
        """The digests whose first byte is `folder`, ascending."""
        first, behind = bytes((folder,)), bytes((folder + 1,)) if folder < 255 else b"\xff" * 33
        found = self._db.execute("SELECT digest FROM live WHERE digest >= ? AND digest < ? ORDER BY digest", (first, behind))
        return (ChunkDigest(digest) for (digest,) in found)
