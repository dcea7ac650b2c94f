"""nbdkit's Python plugin: NBD requests to a `ChunkServer`. Loaded by nbdkit alone; `tasks.engine.host` starts it.

The names below are nbdkit's callbacks (nbdkit-python-plugin(3)), so `open` here is not the built-in one.
Settings and credentials come from the environment and IMS_HOME, never from nbdkit's command line.
"""

from __future__ import annotations

import errno
import sys
from functools import partial

import nbdkit

from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.opening import open_named_bucket
from tasks.engine.errors import ImsError
from tasks.engine.geometry import CHUNK_SIZE
from tasks.engine.serving.cache import ChunkCache
from tasks.engine.serving.exports import DiskExport
from tasks.engine.serving.fetching import ChunkFetcher
from tasks.engine.serving.server import ChunkServer
from tasks.engine.settings import load_settings

API_VERSION = 2
_servers: list[ChunkServer] = []


def thread_model() -> int:
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def after_fork() -> None:
    settings = load_settings()
    objects = open_named_bucket(settings, settings.images_bucket)
    fetcher = ChunkFetcher(ChunkStore(objects), ChunkCache(settings.cache, capacity=settings.cache_bytes))
    server = ChunkServer(settings.exports_socket.parent, fetcher, partial(get_manifest, objects))
    server.start()
    _servers.append(server)


def open(readonly: bool) -> DiskExport:  # noqa: ARG001  # nbdkit's names
    try:
        return _servers[0].open(nbdkit.export_name())
    except (ImsError, ValueError) as error:
        print(f"cannot open export: {error}", file=sys.stderr, flush=True)
        nbdkit.set_error(errno.ENOENT)
        raise


def get_size(handle: DiskExport) -> int:
    return handle.size


def can_write(handle: DiskExport) -> bool:  # noqa: ARG001  # nbdkit's signature
    return False


def can_multi_conn(handle: DiskExport) -> bool:  # noqa: ARG001  # nbdkit's signature
    return True


def can_extents(handle: DiskExport) -> bool:  # noqa: ARG001  # nbdkit's signature
    return True


def block_size(handle: DiskExport) -> tuple[int, int, int]:  # noqa: ARG001  # nbdkit's signature
    """Minimum, preferred and maximum request in bytes."""
    return 1, 4096, 32 * CHUNK_SIZE


def pread(handle: DiskExport, buf: bytearray, offset: int, flags: int) -> None:  # noqa: ARG001  # nbdkit's signature
    try:
        handle.read_into(memoryview(buf), offset)
    except ImsError as error:
        print(f"read at {offset} failed: {error}", file=sys.stderr, flush=True)
        nbdkit.set_error(errno.EIO)
        raise


def extents(handle: DiskExport, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:  # noqa: ARG001  # nbdkit's signature
    hole = int(nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO)
    count = min(count, handle.size - offset)
    return [(start, length, 0 if data else hole) for start, length, data in handle.extents(offset, count)]


def unload() -> None:
    for server in _servers:
        server.stop()
