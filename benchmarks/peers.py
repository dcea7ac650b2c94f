"""The pipeline people use today: convert to a compressed qcow2, hash the result, upload it with the same SDK."""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from pathlib import Path

from minio import Minio

BLOCK = 1 << 20


def convert(disk: Path, target: Path) -> None:
    """`disk` (qcow2 or raw) as a zstd-compressed qcow2."""
    compress(str(disk), target, form=disk.suffix[1:])


def compress(source: str, target: Path, *, form: str) -> None:
    """What qemu-img calls `source`, a file or an NBD export, as a zstd-compressed qcow2."""
    command = ["qemu-img", "convert", "-c", "-f", form, "-O", "qcow2", "-o", "compression_type=zstd"]
    subprocess.run([*command, source, str(target)], check=True)


def sha256(file: Path) -> str:
    """The digest that people publish beside an image."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def convert_and_hash(disk: Path, target: Path) -> str:
    """Both; gives the digest."""
    convert(disk, target)
    return sha256(target)


def convert_and_upload(disk: Path, *, scratch: Path, client: Minio, bucket: str) -> None:
    """The whole of it: nothing is left in `scratch`."""
    target = scratch / f"peer-{uuid.uuid4().hex}.qcow2"
    try:
        digest = convert_and_hash(disk, target)
        client.fput_object(bucket, f"peer/{digest}", str(target))
    finally:
        target.unlink(missing_ok=True)


def compress_and_upload(source: str, *, form: str, scratch: Path, client: Minio, bucket: str) -> None:
    """Without the hash; nothing is left in `scratch`."""
    target = scratch / f"peer-{uuid.uuid4().hex}.qcow2"
    try:
        compress(source, target, form=form)
        client.fput_object(bucket, target.name, str(target))
    finally:
        target.unlink(missing_ok=True)
