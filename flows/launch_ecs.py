"""Launch: an ECS from an image, in a time that does not depend on the image's size.

Its disk is an overlay over the image, whose chunks are fetched when the guest first reads them; the rest follows in the
background. The host is the one that was asked for, or one with room; its own worker does the work where that is not this one.
Needs the catalog, and libvirt and the NBD server of that host.
"""

from __future__ import annotations

from prefect import flow

from tasks import guests, images, routing
from tasks.reports import report_ecs
from tasks.requests import AccountName, Flavor, Identifier, LaunchOptions, Name
from tasks.sagas import Call, saga
from tasks.views import EcsView


@flow(name="launch-ecs", flow_run_name="launch {name} for {account}", description=__doc__)
def launch_ecs(
    image: Identifier,
    name: Name,
    account: AccountName = "admin",
    flavor: Flavor = "small",
    options: LaunchOptions = LaunchOptions(),  # noqa: B008  # immutable in use, and the form shows its fields
) -> EcsView:
    """Launch an ECS and wait until it is ready. Raises NotFound for an image that the account does not see."""
    image_id = images.image_id_of(account, image)
    call = Call(kind="launch", account=account, key=options.idempotency_key, facts={"name": name, "image": image_id})
    if (there := routing.run_launch_elsewhere(call, image_id, name, flavor, options)) is not None:
        return EcsView.model_validate(there)
    with saga(call, undo=guests.undo_launch) as held:
        if held.result is not None:
            return EcsView.model_validate(held.result)
        ecs_id = guests.queue_ecs(held, image_id, name, flavor, options)
        accelerator = guests.build_guest(held, ecs_id, options)
        ready_by = guests.wait_for_guest(held, ecs_id)
        view = guests.activate_ecs(held, ecs_id, accelerator, ready_by)
        if options.standalone:
            view = guests.pull_base(held, ecs_id)
        report_ecs(held, view)
    return view
