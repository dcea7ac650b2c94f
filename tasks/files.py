"""Steps on the external file of an import: find it, bring it here, prove its checksum, look at its headers, list its disks.

Disks travel between steps as `SourceDisk`, which names bytes in a local file; their content goes to the store in `tasks.disks`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from prefect import task
from pydantic import BaseModel

from tasks.engine.disks.formats import DiskFormat, Finding, Window
from tasks.engine.disks.package import packaged_disks, unwrapped
from tasks.engine.disks.wrappers import OutputLimits
from tasks.engine.errors import Refused
from tasks.engine.settings import load_settings
from tasks.engine.sources.checksum import parse_checksum, verify_checksum
from tasks.engine.sources.download import Room, download
from tasks.policies import ONCE, RETRIED
from tasks.preflight import check_source, is_remote, local_file, remote_address
from tasks.progress import Progress
from tasks.requests import DeclaredFormat
from tasks.resources import images_bucket
from tasks.sagas import Saga

SPARE_BYTES = 256 << 20
"""Space that an import leaves free on the host's disk."""


class SourceDisk(BaseModel):
    """One disk of a local file: where its bytes are and what the gate found."""

    index: int
    path: Path
    offset: int
    size: int
    format: DiskFormat
    virtual_size: int
    needs_replay: bool

    @property
    def window(self) -> Window:
        return Window(self.path, self.offset, self.size)

    @property
    def finding(self) -> Finding:
        return Finding(self.format, self.virtual_size, self.needs_replay)


@task(**ONCE, task_run_name="check services")
def check_services() -> None:
    """Raise at once when the store does not answer, before anything is promised."""
    images_bucket().ping()


@task(**ONCE, task_run_name="look at headers")
def preflight(account: str, source: str, declared: DeclaredFormat, checksum: str | None, etag: str | None = None) -> int:
    """Refuse what headers alone condemn. Returns the virtual size in bytes, 0 where only the whole file tells."""
    if checksum:
        parse_checksum(checksum)
    return check_source(account, source, declared=declared.known, etag=etag or "").virtual_size


@task(**RETRIED, task_run_name="obtain file")
def obtain_file(saga: Saga, source: str, checksum: str | None, etag: str | None = None) -> Path:
    """The source as a local file whose checksum is proved. What was downloaded before is not downloaded again."""
    settings = load_settings()
    path = _local(saga, source, etag or "")
    if checksum:
        title = Progress("Verify checksum", total=path.stat().st_size)
        verify_checksum(path, parse_checksum(checksum), on_bytes=title)
    limits, facts = OutputLimits(max_bytes=2 * settings.max_disk_bytes), path.stat()
    # Named by the file it came from: an earlier attempt may have unpacked another one.
    content = scratch_of(saga) / f"content-{facts.st_size}-{facts.st_mtime_ns}"
    return unwrapped(path, content, limits=limits, on_bytes=Progress("Unpack", total=facts.st_size))


@task(**RETRIED, task_run_name="examine disks")
def examine_file(saga: Saga, path: Path, declared: DeclaredFormat) -> list[SourceDisk]:
    """Every disk of the file, each of its mapping tables checked by our own gate."""
    settings = load_settings()
    found = packaged_disks(path, scratch_of(saga), declared=declared.known, max_virtual_size=settings.max_disk_bytes)
    return [
        SourceDisk(
            index=index,
            path=disk.window.path,
            offset=disk.window.offset,
            size=disk.window.size,
            format=disk.finding.format,
            virtual_size=disk.finding.virtual_size,
            needs_replay=disk.finding.needs_replay,
        )
        for index, disk in enumerate(found)
    ]


@task(**ONCE, task_run_name="clean up")
def discard_scratch(saga: Saga) -> None:
    """Remove what this operation kept on the host."""
    remove_scratch(saga)


def remove_scratch(saga: Saga) -> None:
    """Remove the operation's private folder; one that is gone already is no error."""
    shutil.rmtree(load_settings().scratch / saga.operation_id, ignore_errors=True)


def undo_import(saga: Saga, error: BaseException) -> None:
    """A refused import keeps no working file; one that may be tried again keeps its download to resume it."""
    if isinstance(error, Refused):
        remove_scratch(saga)


def scratch_of(saga: Saga) -> Path:
    """The operation's private folder, the same at every attempt."""
    folder = load_settings().scratch / saga.operation_id
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _local(saga: Saga, source: str, etag: str) -> Path:
    if not is_remote(source):
        return local_file(source)
    url, allow = remote_address(saga.account, source)
    settings, target = load_settings(), scratch_of(saga) / "source"
    room = Room(allowed=2 * settings.max_disk_bytes, free=shutil.disk_usage(target.parent).free - SPARE_BYTES)
    title = Progress(f"Download {source.split('?')[0]}")
    return download(url, target, allow=allow, room=room, on_bytes=title, etag=etag)
