"""Attach: an ECS gets one more disk, over the one disk of a data-disk image, while it runs or while it is stopped.

Its content is fetched when the guest first reads it. Needs this host's libvirt and NBD server.
"""

from __future__ import annotations

from prefect import flow

from tasks import attaching, guests, images, routing
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga
from tasks.views import EcsView


@flow(name="attach-disk", flow_run_name="attach {image} to {ecs} for {account}", description=__doc__)
def attach_disk(ecs: Identifier, image: Identifier, account: AccountName = "admin") -> EcsView:
    """Add a disk to an ECS. Raises NotFound for an ECS or an image that the account does not see."""
    ecs_id, image_id = guests.ecs_id_of(account, ecs), images.image_id_of(account, image)
    call = Call(kind="attach-disk", account=account, facts={"ecs": ecs_id, "image": image_id}, locks=ecs_id)
    if (there := routing.run_where_ecs_is(call, ecs_id, {"ecs": ecs_id, "image": image_id})) is not None:
        return EcsView.model_validate(there)
    with saga(call, undo=attaching.undo_attach) as held:
        index = attaching.add_disk(held, ecs_id, image_id)
        return attaching.plug_disk(held, ecs_id, index)
