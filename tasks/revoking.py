"""Steps of a revocation: find the image and what descends from it, deactivate each, say which ECSs run any of them."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from pydantic import BaseModel

from models.exceptions import NotVisible
from models.operations import heartbeat
from models.revocation import RunningEcs, images_to_revoke, revoke_image, running_ecs
from models.tables import Image
from tasks.events import tell
from tasks.finding import resolve_image
from tasks.markdown import cell, table
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, require_account
from tasks.sagas import Saga

SHOWN = 500


class RevokedImage(BaseModel):
    """One image of a revocation; `changed` where this run deactivated it or withdrew what offered it."""

    id: str
    name: str
    owner: str
    changed: bool


class RevocationView(BaseModel):
    """What a revocation reached."""

    image_id: str
    images: list[RevokedImage]
    ecs: list[RunningEcs]


def revocable_id_of(account: str, wanted: str) -> str:
    """The id of an image to revoke, by id or by the name it has for the account, once this process has proved the account.

    An operator may name any image by its id.
    """
    with catalog() as session:
        name = require_account(session, account=account)
        try:
            return images_to_revoke(session, account=name, image_id=wanted, descendants=False)[0]
        except NotVisible:
            return resolve_image(session, account=name, wanted=wanted)


@task(**RETRIED, task_run_name="find images")
def find_images(saga: Saga, image_id: str, descendants: bool) -> list[str]:
    """Ids, parents first. Raises NotFound for an image that the account may not revoke."""
    with catalog() as session:
        return images_to_revoke(session, account=saga.account, image_id=image_id, descendants=descendants)


@task(**RETRIED, task_run_name="revoke {image_id}")
def revoke(saga: Saga, image_id: str) -> RevokedImage:
    """Deactivate one image and withdraw what the marketplace offers of it."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        changed = revoke_image(session, image_id=image_id, by=saga.actor)
        image = session.get_one(Image, image_id)
    if changed:
        tell("image.revoked", kind="image", subject=image.id, name=image.name, owner=image.owner, by=saga.account)
    return RevokedImage(id=image.id, name=image.name, owner=image.owner, changed=changed)


@task(**ONCE, task_run_name="report")
def report_revocation(saga: Saga, image_id: str, images: Sequence[RevokedImage]) -> RevocationView:
    """Publish what was revoked and which ECSs run it: they go on until somebody stops them."""
    with catalog() as session:
        ids = [image.id for image in images]
        ecs = running_ecs(session, account=saga.account, image_ids=ids)
    view = RevocationView(image_id=image_id, images=list(images), ecs=ecs)
    publish(key=f"revocation-{image_id}", text=revocation_markdown(view), title="Revocation")
    saga.result = view.model_dump(mode="json")
    return view


def revocation_markdown(view: RevocationView) -> str:
    """The report of a revocation."""
    images = [
        (cell(each.name), cell(each.owner), f"`{each.id}`", "yes" if each.changed else "was before") for each in view.images
    ]
    ecs = [(cell(each.name), cell(each.owner), each.state, cell(each.host), f"`{each.id}`") for each in view.ecs]
    parts = ["# Revocation", f"{len(images)} images, run by {len(ecs)} ECSs, which go on until they are stopped."]
    parts.append(table(("Image", "Owner", "Id", "Revoked now"), images[:SHOWN]))
    if ecs:
        parts.append(table(("ECS", "Owner", "State", "Host", "Id"), ecs[:SHOWN]))
    return "\n\n".join(parts)
