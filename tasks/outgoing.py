"""Steps of an export: a stored disk becomes a file, and the file stays at a path or goes to the exports bucket."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from prefect import task
from pydantic import BaseModel

from models.images import get_image
from models.licences import require_exportable
from models.vocabulary import ImageState
from tasks.disks import require_whole
from tasks.engine.disks.convert import export_disk
from tasks.engine.disks.formats import DiskFormat
from tasks.engine.errors import HostUnavailable, RequestRefused, StateRefused
from tasks.engine.settings import load_settings
from tasks.exported import key_of, url_seconds
from tasks.exports import backing_of, require_server
from tasks.files import remove_scratch, scratch_of
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress
from tasks.reports import publish
from tasks.requests import ExportFormat
from tasks.resources import catalog, exports_bucket
from tasks.sagas import Saga

BLOCK = 4 << 20


class ExportView(BaseModel):
    """One exported file: where it is, its SHA-256 and its size in bytes; `url` where it went to the bucket."""

    path: str | None
    url: str | None = None
    sha256: str
    size: int
    format: str


@task(**RETRIED, task_run_name="write {format.value} file")
def write_file(saga: Saga, image_id: str, index: int, format: ExportFormat, to: str | None) -> Path:
    """Convert the disk into a new file, which appears only when whole."""
    with catalog() as session:
        image = get_image(session, account=saga.account, image_id=image_id)
        if image.state is not ImageState.ACTIVE:
            raise StateRefused("image", "state", f"image {image_id} is {image.state}", remedy="Only an active one is exported.")
        require_exportable(image, account=saga.account)
        disk = next((disk for disk in image.disks if disk.index == index), None)
        name = image.name
    if disk is None:
        raise RequestRefused("disk", f"image {image_id} has no disk {index}", remedy="See `ims image show`.")
    require_server()
    target = _new_file(to) if to else scratch_of(saga) / f"{_safe(name)}.{format.value}"
    target.unlink(missing_ok=True)
    backing = backing_of(disk)
    progress = Progress(f"Write {format.value}", total=disk.virtual_size)
    try:
        export_disk(
            nbd_socket=backing.socket,
            export_name=backing.export,
            virtual_size=disk.virtual_size,
            format=DiskFormat(format.value),
            destination=target,
            progress=lambda share: progress(int(share * disk.virtual_size)),
        )
    except HostUnavailable:
        require_whole(backing.export)  # a reader of NBD learns of a damaged chunk no more than that it could not be read
        raise
    return target


@task(**RETRIED, task_run_name="hand out")
def hand_out(saga: Saga, path: Path, format: ExportFormat, to: str | None) -> ExportView:
    """The file's digest and size; without a target path it goes to the exports bucket under an address that expires."""
    url = None
    if not to:
        key = key_of(saga.account, saga.operation_id, path.name)
        bucket = exports_bucket()
        bucket.upload(key, path)
        url = bucket.presign(key, seconds=url_seconds(load_settings()))
    sha256, size = _digest(path), path.stat().st_size
    remove_scratch(saga)
    view = ExportView(path=str(path) if to else None, url=url, sha256=sha256, size=size, format=format.value)
    saga.result = view.model_dump(mode="json", exclude={"url"})
    return view


@task(**ONCE, task_run_name="report")
def report_export(saga: Saga, view: ExportView) -> None:
    """Publish where the file is and how to check it."""
    where = f"`{view.path}`" if view.path else f"in the exports bucket, for {load_settings().export_days} days"
    rows = f"| | |\n|---|---|\n| Format | {view.format} |\n| Size | {view.size:,} bytes |\n| SHA-256 | `{view.sha256}` |"
    publish(key=f"export-{saga.operation_id}", text=f"# Export\n\nThe file is {where}.\n\n{rows}", title="Export")


def undo_export(saga: Saga, _error: BaseException) -> None:
    """A failed export keeps nothing in the scratch folder."""
    remove_scratch(saga)


def _new_file(to: str) -> Path:
    path = Path(to)
    if path.exists():
        raise RequestRefused("target_exists", f"{to} exists already", remedy="Name a new file.")
    if not path.parent.is_dir():
        raise RequestRefused("target", f"{path.parent} is no folder", remedy="Make it first.")
    return path


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".") or "image"


def _digest(path: Path) -> str:
    digest, done, progress = hashlib.sha256(), 0, Progress("Digest", total=path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            progress(done)
    return digest.hexdigest()
