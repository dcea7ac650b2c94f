"""A disk like an operating system's, made of this machine's own files: ext4 in a qcow2, as `qemu-img` writes it.

Not the sample guest: nothing boots from it. qcow2 is the source format because it is what people import most.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

BUDGETS = (("/usr/lib", 280 << 20), ("/usr/bin", 130 << 20), ("/usr/share", 120 << 20))
"""Folders and bytes of files from each: libraries, programs, text; together what a small server install holds."""

LARGEST_FILE = 32 << 20
SIBLING_PIECE = 8 << 20
SIBLING_STRIDE = 64 << 20
SPARSE_PIECE = 1 << 20
SPARSE_PIECES = 100
LARGE_SEED = 1 << 16


def make_system_disk(folder: Path, *, virtual_size: int) -> Path:
    """`system.qcow2` in `folder`, about 530 MB of files in an ext4 of `virtual_size` bytes."""
    tree, raw, disk = folder / "tree", folder / "system.raw", folder / "system.qcow2"
    for source, budget in BUDGETS:
        for path in _files(Path(source), budget):
            target = tree / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    with raw.open("wb") as file:
        file.truncate(virtual_size)
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(raw))
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk))
    shutil.rmtree(tree)
    raw.unlink()
    return disk


def make_sibling(disk: Path, target: Path, *, changed: int) -> Path:
    """A copy of `disk` in which `changed` bytes are new random data, in pieces as large as an updated package's files."""
    shutil.copyfile(disk, target)
    pieces = [min(SIBLING_PIECE, changed - done) for done in range(0, changed, SIBLING_PIECE)]
    _write(target, [(SIBLING_STRIDE * (number + 1), os.urandom(length)) for number, length in enumerate(pieces)])
    return target


def make_sparse_pair(folder: Path) -> tuple[Path, Path]:
    """The same 100 MB of random data spread over 1 TiB and over 1 GiB."""
    data = [os.urandom(SPARSE_PIECE) for _ in range(SPARSE_PIECES)]
    disks = []
    for name, virtual_size in (("huge", 1 << 40), ("small", 1 << 30)):
        disks.append(folder / f"{name}.qcow2")
        _run("qemu-img", "create", "-q", "-f", "qcow2", str(disks[-1]), str(virtual_size))
        stride = virtual_size // SPARSE_PIECES // SPARSE_PIECE * SPARSE_PIECE
        _write(disks[-1], [(number * stride, piece) for number, piece in enumerate(data)])
    return disks[0], disks[1]


def make_large_disk(target: Path, *, data_bytes: int) -> Path:
    """A raw disk full of distinct, compressible data: each MiB repeats random bytes of its own."""
    with target.open("wb") as file:
        for _ in range(data_bytes >> 20):
            file.write(os.urandom(LARGE_SEED) * ((1 << 20) // LARGE_SEED))
    return target


def _write(disk: Path, pieces: list[tuple[int, bytes]]) -> None:
    """Overwrite guest-visible bytes: (offset, data) each."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as folder:
        commands: list[str] = []
        for number, (offset, data) in enumerate(pieces):
            source = Path(folder) / str(number)
            source.write_bytes(data)
            commands += ["-c", f"write -q -s {source} {offset} {len(data)}"]
        _run("qemu-io", "-f", "qcow2", *commands, str(disk))


def _files(folder: Path, budget: int) -> Iterator[Path]:
    """Regular files below a folder in the order of their names until the budget is used up."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_FILE:
            continue
        budget -= path.stat().st_size
        if budget < 0:
            return
        yield path


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
