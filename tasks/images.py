"""Steps on an image's catalog row: queue it, note what was found, activate it, delete it. Bytes are `tasks.disks`' matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task

from models.facts import DiskFacts
from models.image_changes import activate_image, forget_disks, record_disk, requeue_image
from models.images import NewImage, create_image, delete_image, own_image
from models.operations import bind_subject, heartbeat
from models.quotas import settle_bytes
from models.states import transition
from models.tables import Image
from models.vocabulary import ImageState
from tasks.finding import resolve_image
from tasks.policies import ONCE, RETRIED
from tasks.requests import DeclaredFormat, ImportOptions
from tasks.resources import catalog, require_account
from tasks.sagas import Saga
from tasks.views import ImageView, image_view


@task(**ONCE, task_run_name="queue {name}")
def queue_image(saga: Saga, name: str, facts: dict[str, Any], options: ImportOptions) -> str:
    """Reserve quota and make the image's row, or take up the one that an earlier attempt made. Returns its id."""
    with catalog(write=True) as session:
        image = session.get(Image, saga.subject) if saga.subject else None
        if image is not None and image.state is not ImageState.DELETED:
            requeue_image(session, image=image, by=saga.actor)
            forget_disks(session, image=image)
            image.sqlmodel_update({name: facts[name] for name in ("source", "declared_format", "checksum")})
            session.add(image)
        else:
            new = NewImage(
                name=name,
                description=options.description,
                tags=options.tags,
                min_memory_mib=options.min_memory_mib,
                **facts,
            )
            image = create_image(session, new=new, by=saga.actor)
            bind_subject(session, lease=saga.held, subject_id=image.id)
        saga.about("image", image.id)
        return image.id


@task(**RETRIED, task_run_name="reserve space")
def reserve_space(saga: Saga, image_id: str, format: str, size: int) -> None:
    """Reserve `size` bytes of the account's quota, now that format and sizes are known, and say that bytes move."""
    with catalog(write=True) as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        settle_bytes(session, image=image, size=size)
        image.format = format
        if image.state is ImageState.QUEUED:
            transition(session, subject=image, new=ImageState.TRANSFERRING, by=saga.actor)


@task(**RETRIED, task_run_name="note disk {facts.index}")
def note_disk(saga: Saga, image_id: str, facts: DiskFacts) -> None:
    """Note a stored disk on the image."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        image = own_image(session, account=saga.account, image_id=image_id)
        record_disk(session, image=image, facts=facts)


@task(**RETRIED, task_run_name="begin verification")
def begin_verification(saga: Saga, image_id: str) -> None:
    """All bytes are stored; what follows looks at them."""
    with catalog(write=True) as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        if image.state is ImageState.TRANSFERRING:
            transition(session, subject=image, new=ImageState.VERIFYING, by=saga.actor)


@task(**RETRIED, task_run_name="activate image")
def activate(saga: Saga, image_id: str) -> ImageView:
    """The one transaction after which the image exists for everybody who may see it."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        image = own_image(session, account=saga.account, image_id=image_id)
        if image.state not in (ImageState.ACTIVE, ImageState.DEACTIVATED):
            activate_image(session, image=image, by=saga.actor)
        view = image_view(session, image, account=saga.account)
    saga.result = view.model_dump(mode="json")
    return view


@task(**ONCE, task_run_name="delete image {image_id}")
def delete(saga: Saga, image_id: str) -> ImageView:
    """Leave the image's tombstone; ECSs made from it live on and its chunks are the collector's."""
    with catalog(write=True) as session:
        image = delete_image(session, image_id=image_id, by=saga.actor)
        bind_subject(session, lease=saga.held, subject_id=image.id)
        view = image_view(session, image, account=saga.account)
    saga.result = view.model_dump(mode="json")
    return view


def activated(saga: Saga) -> str | None:
    """The image that an earlier attempt made active before it was killed; None where there is work left."""
    with catalog() as session:
        image = session.get(Image, saga.subject) if saga.subject else None
        return image.id if image is not None and image.state in (ImageState.ACTIVE, ImageState.DEACTIVATED) else None


def image_id_of(account: str, wanted: str) -> str:
    """The id of a visible image given by id or name, once this process has proved the account."""
    with catalog() as session:
        return resolve_image(session, account=require_account(session, account=account), wanted=wanted)


def request_facts(source: str, declared: DeclaredFormat, checksum: str | None, *, size: int) -> dict[str, Any]:
    """What the row keeps of a request; a URL's query may hold a signature and is left out."""
    shown = source.split("?", 1)[0] if source.startswith(("http://", "https://")) else source
    shown = str(Path(shown)) if "://" not in shown else shown
    declared_format = None if declared is DeclaredFormat.AUTO else declared.value
    return {"source": shown, "declared_format": declared_format, "checksum": checksum, "size": size}
