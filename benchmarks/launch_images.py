"""Images for the launch benchmarks: the sample guest with files in its root until the disk stores a given size.

Both rivals get the same disk: its chunks in one bucket, and for the peer the compressed qcow2 that people keep in a store.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.importing import import_disk
from benchmarks.peers import convert
from deployments.sample_guest import build, fetch
from deployments.sample_guest.disk import MIB, ROOT_SIZE, ROOT_START
from deployments.sample_guest.packages import default_folder
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.geometry import SECTOR_SIZE

BLOCK = 16 << 10
SEED = 4 << 10
"""Random bytes that fill a block by repetition: it compresses four to one, in a cluster of the peer's as in a chunk. That is
more than most systems do and favours the peer, which has to fetch all of it."""

PIECE = 256 * MIB
GUEST_DATA = 38 * MIB
"""What the sample guest stores by itself."""

ROOT_LENGTH_AT = 446 + 16 + 12
"""Where the partition table says how many sectors the root, the second partition, has."""


@dataclass(frozen=True, slots=True)
class Image:
    """One disk in both forms: `digest` names its manifest, `name` the object of `peer_bytes` that the peer downloads."""

    name: str
    virtual_size: int
    digest: ManifestDigest
    peer_bytes: int


def publish(name: str, disk: Path, *, chunks: ObjectStore, peers: ObjectStore) -> Image:
    """Put the disk into the store as both rivals keep it; the file goes."""
    stored = import_disk(disk, chunks)
    compressed = disk.with_suffix(".qcow2")
    convert(disk, compressed)
    disk.unlink()
    peers.upload(name, compressed)
    peer_bytes = compressed.stat().st_size
    compressed.unlink()
    return Image(name, stored.virtual_size, stored.manifest_digest, peer_bytes)


def sample_guest(target: Path) -> Path:
    """The guest as it is built, from packages that are fetched once."""
    packages = default_folder()
    fetch(packages)
    return build(target, packages=packages)


def enlarge(guest: Path, target: Path, *, data_bytes: int) -> Path:
    """A copy of the sample guest's disk, its root larger and holding files, so that the disk stores about `data_bytes`."""
    added = data_bytes - GUEST_DATA
    root_size = (ROOT_SIZE + added * 21 // 20) // MIB * MIB
    shutil.copyfile(guest, target)
    root = f"{target}?offset={ROOT_START}"
    os.truncate(target, ROOT_START + root_size)
    _run("e2fsck", "-f", "-y", root)
    _run("resize2fs", root, f"{root_size // MIB}M")
    with target.open("r+b") as disk:
        disk.truncate(ROOT_START + root_size)  # resize2fs takes the file for the partition, and cuts it
        disk.seek(ROOT_LENGTH_AT)
        disk.write(struct.pack("<I", root_size // SECTOR_SIZE))
    for number, length in enumerate(_pieces(added)):
        piece = _random_file(target.with_name(f"data-{number}"), length)
        _run("debugfs", "-w", "-R", f"write {piece} {piece.name}", root)
        piece.unlink()
    return target


def _pieces(total: int) -> Iterator[int]:
    """Lengths of at most PIECE, so that a piece need never reach the host's own disk."""
    for done in range(0, total, PIECE):
        yield min(PIECE, total - done)


def _random_file(path: Path, length: int) -> Path:
    with path.open("wb") as file:
        for _ in range(length // BLOCK):
            file.write(os.urandom(SEED) * (BLOCK // SEED))
    return path


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
