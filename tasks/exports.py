"""Stored disks as this host's NBD server offers them: the socket, the name, and whether the server is there at all."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from models.tables import Disk, EcsDisk
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.errors import HostUnavailable
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.domain_xml import DiskSpec
from tasks.engine.serving.filling import request_fill
from tasks.engine.settings import load_settings
from tasks.resources import images_bucket


def require_server() -> None:
    """Raise HostUnavailable unless this host's NBD server accepts connections."""
    path = load_settings().exports_socket
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(str(path))
    except OSError as error:
        raise HostUnavailable("nbd_server", f"no NBD server at {path}: {error}", remedy="Run `ims up`.") from error
    finally:
        probe.close()


def backing_of(disk: Disk) -> Backing:
    """The export of an image's stored disk."""
    return Backing(socket=load_settings().exports_socket, export=disk.digest or "", virtual_size=disk.virtual_size)


@contextmanager
def causes_told(disks: Iterable[DiskSpec]) -> Iterator[None]:
    """Where a guest gets no disk because the server cannot serve it, Missing or Damaged of its manifest are raised instead."""
    try:
        yield
    except HostUnavailable:
        for disk in disks:
            if isinstance(disk.backing, Backing):
                get_manifest(images_bucket(), ManifestDigest(disk.backing.export))
        raise


def fill(disk: EcsDisk) -> None:
    """Ask the server to fetch the rest of an ECS's base in the background."""
    if disk.base_digest is not None:
        request_fill(load_settings().exports_socket.parent / "fill", ManifestDigest(disk.base_digest))
