"""Catalog rows as people and programs see them: the values of `--json`, of flow results and of reports. Read-only.

No Prefect here: the commands that only read use this as well.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from models.images import image_type
from models.tables import Ecs, Image


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class DiskView(_View):
    """One disk of an image; sizes in bytes, digest of its manifest."""

    index: int
    kind: str
    virtual_size: int
    digest: str | None
    data_bytes: int
    stored_bytes: int
    new_bytes: int


class ImageView(_View):
    """One image as the account that looks sees it. `bytes_stored` is what its chunks occupy, `bytes_new` what it added."""

    id: str
    name: str
    type: str
    owner: str
    state: str
    description: str
    tags: list[str]
    format: str | None
    source: str
    os_type: str | None
    os_distro: str | None
    os_version: str | None
    architecture: str | None
    boot_mode: str | None
    boot_proof: str
    min_disk_gib: int
    min_memory_mib: int
    protected: bool
    hidden: bool
    checksum: str | None
    parent_image_id: str | None
    source_ecs_id: str | None
    consistency: str | None
    generalized: bool | None
    series: str | None
    digest: str | None
    licences: list[str]
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    deprecated_at: datetime | None
    bytes_stored: int
    bytes_new: int
    disks: list[DiskView]


class EcsDiskView(_View):
    """One disk of an ECS; sizes in bytes, digest of the manifest it lies over, None for one that began empty."""

    index: int
    kind: str
    size_bytes: int
    base_digest: str | None
    checkpoint: str | None


class EcsView(_View):
    """One ECS."""

    id: str
    name: str
    owner: str
    state: str
    image_id: str
    host: str
    flavor: str
    disk_gib: int
    accelerator: str | None
    seconds_to_ready: float | None
    ready_by: str | None
    standalone: bool
    locked_by: str | None
    disks: list[EcsDiskView]
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime


def image_view(session: Session, image: Image, *, account: str) -> ImageView:
    """The image as `account` sees it; where it came from and what went wrong is its owner's business."""
    disks = [DiskView.model_validate(disk) for disk in image.disks]
    values: dict[str, Any] = {name: getattr(image, name) for name in ImageView.model_fields if hasattr(image, name)}
    own = image.owner == account
    values |= {
        "type": image_type(session, account=account, image=image),
        **(
            {} if own else {"source": "", "error_message": None, "parent_image_id": None, "source_ecs_id": None, "licences": []}
        ),
        "disks": disks,
        "bytes_stored": sum(disk.stored_bytes for disk in disks),
        "bytes_new": sum(disk.new_bytes for disk in disks),
    }
    return ImageView.model_validate(values)


def ecs_view(ecs: Ecs) -> EcsView:
    """The ECS as its owner sees it."""
    return EcsView.model_validate(ecs)
