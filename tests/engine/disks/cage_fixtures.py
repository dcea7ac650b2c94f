"""Disk images with known content, what a reader makes of them, and Python probes that run inside the cage."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

from tasks.engine.children import Launch
from tasks.engine.disks import cage, gate
from tasks.engine.disks.bytesource import FileBytes
from tasks.engine.disks.cage import Cage
from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.geometry import CHUNK_SIZE, DiskReader

SIZE = (24 << 20) + 1536


def scattered_disk(path: Path, *, size: int = SIZE) -> Path:
    """A raw disk of holes and a few runs of data, some of it at its very end."""
    dice = random.Random(7)
    with path.open("wb") as disk:
        disk.truncate(size)
        for length in (512, 4096, 70144, 300032, 2 << 20):
            disk.seek(dice.randrange(size - length) // 512 * 512)
            disk.write(dice.randbytes(length // 2) + bytes(length // 2))
        disk.seek(size - 512)
        disk.write(b"end!" * 128)
    return path


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def content_digest(reader: DiskReader) -> str:
    """SHA-256 of the whole disk as its chunks tell it."""
    digest, position = hashlib.sha256(), 0
    for chunk in reader.pending_chunks():
        digest.update(bytes((chunk.index - position) * CHUNK_SIZE))
        data = chunk.read()
        digest.update(data)
        position = chunk.index + 1
    digest.update(bytes(max(0, reader.virtual_size - position * CHUNK_SIZE)))
    return digest.hexdigest()


def found(path: Path, declared: DiskFormat | None = None) -> Finding:
    with FileBytes(Window(path)) as source:
        return gate.examine(source, declared=declared, max_virtual_size=1 << 50, depth="full")


def probe(code: str, room: Cage, *, timeout_seconds: float = 30) -> tuple[int, str, str]:
    """Run Python code as the tool of a cage: exit status, last words, output."""
    output: list[bytes] = []
    command = ["python3", "-I", "-S", "-c", code]
    status, words = cage.run(command, room, timeout_seconds=timeout_seconds, launch=Launch(on_output=output.append))
    return status, words, b"".join(output).decode()
