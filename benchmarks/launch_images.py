"""Images for the launch benchmarks: the sample guest whose root file system holds data up to a given size.

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
from deployments.sample_guest.disk import MIB, ROOT_SIZE, ROOT_START
from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.geometry import SECTOR_SIZE

CLUSTER = 64 << 10
SEED = 24 << 10
"""Random bytes that fill a cluster by repetition: data that compresses as well as an operating system's files do."""

PIECE = 256 * MIB
GUEST_DATA = 38 * MIB
"""What the sample guest stores without more data."""

ROOT_ENTRY = 446 + 16
"""Where in the first sector the root's partition entry is; its last four bytes are the partition's sectors."""


@dataclass(frozen=True, slots=True)
class Image:
    """One disk in both forms: `digest` names its manifest, `peer_key` the object that the peer downloads."""

    name: str
    virtual_size: int
    data_bytes: int
    digest: str
    peer_key: str


def publish(name: str, disk: Path, *, chunks: ObjectStore, peers: ObjectStore) -> Image:
    """Put the disk into the store as both rivals keep it; the file goes."""
    stored = import_disk(disk, chunks)
    compressed = disk.with_suffix(".qcow2")
    convert(disk, compressed)
    disk.unlink()
    peers.upload(name, compressed)
    compressed.unlink()
    return Image(name, stored.virtual_size, stored.data_bytes, str(stored.manifest_digest), name)


def enlarge(guest: Path, target: Path, *, data_bytes: int) -> Path:
    """A copy of the sample guest's disk with files in its root until the disk stores about `data_bytes`."""
    root_size = ROOT_SIZE + (data_bytes - GUEST_DATA) * 21 // 20 // MIB * MIB
    root = target.with_suffix(".root")
    _copy_root(guest, root)
    os.truncate(root, root_size)
    _run("e2fsck", "-f", "-y", str(root))
    _run("resize2fs", str(root))
    for number, length in enumerate(_pieces(data_bytes - GUEST_DATA)):
        _add_file(root, f"data-{number}", length)
    _assemble(guest, root, target)
    return target


def _copy_root(guest: Path, root: Path) -> None:
    with guest.open("rb") as source, root.open("wb") as file:
        source.seek(ROOT_START)
        file.write(source.read(ROOT_SIZE))


def _pieces(total: int) -> Iterator[int]:
    for done in range(0, total, PIECE):
        yield min(PIECE, total - done)


def _add_file(root: Path, name: str, length: int) -> None:
    piece = root.with_name(name)
    with piece.open("wb") as file:
        for _ in range(length // CLUSTER):
            file.write((os.urandom(SEED) * (CLUSTER // SEED + 1))[:CLUSTER])
    _run("debugfs", "-w", "-R", f"write {piece} {name}", str(root))
    piece.unlink()


def _assemble(guest: Path, root: Path, target: Path) -> None:
    """The root takes the place of the guest's, by moving its bytes behind the guest's boot partition."""
    with guest.open("rb") as source, target.open("wb") as disk:
        disk.write(source.read(ROOT_START))
    with root.open("rb") as source, target.open("ab") as disk:
        shutil.copyfileobj(source, disk, MIB)
    with target.open("r+b") as disk:
        disk.seek(ROOT_ENTRY + 12)
        disk.write(struct.pack("<I", root.stat().st_size // SECTOR_SIZE))
    root.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
