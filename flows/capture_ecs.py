"""Capture: an ECS, running or stopped, becomes an image.

The ECS is locked while its disks are read and frozen for a moment at most. Only what changed since its launch or its last
capture is read. The guest's identity is removed from the image, never from the ECS. Safe to kill and run again.
Needs the store, the catalog, and the host that the ECS is on.
"""

from __future__ import annotations

from prefect import flow

from tasks import captures, files, generalizing, guests, images, moments, routing, verification
from tasks.reports import report_capture
from tasks.requests import AccountName, CaptureOptions, Generalize, Identifier, Name, Verify, Whole
from tasks.sagas import Call, saga
from tasks.views import ImageView


@flow(name="capture-ecs", flow_run_name="capture {ecs} as {name} for {account}", description=__doc__)
def capture_ecs(
    ecs: Identifier,
    name: Name,
    account: AccountName = "admin",
    whole: Whole = False,
    generalize: Generalize = True,
    verify: Verify = "boot",
    options: CaptureOptions = CaptureOptions(),  # noqa: B008  # immutable in use, and the form shows its fields
) -> ImageView:
    """Make an image of an ECS. Raises NotFound for one that is not the account's, StateRefused for one that is neither
    running nor stopped."""
    ecs_id = guests.ecs_id_of(account, ecs)
    facts = {"name": name, "ecs": ecs_id}
    call = Call(kind="capture", account=account, key=options.idempotency_key, facts=facts, locks=ecs_id)
    asked = {"ecs": ecs_id, "name": name, "whole": whole, "generalize": generalize, "verify": verify, "options": options}
    if (there := routing.run_where_ecs_is(call, ecs_id, asked)) is not None:
        return ImageView.model_validate(there)
    with saga(call, undo=captures.undo_capture) as held:
        if held.result is not None:
            return ImageView.model_validate(held.result)
        image_id = images.activated(held)
        if image_id is None:
            files.check_services()
            image_id = captures.queue_capture(held, ecs_id, name, whole, options)
            disks = captures.stored(held, image_id)
            if disks is None:
                moment = moments.take_moment(held, ecs_id, whole, options)
                disks = [captures.store_disk(held, ecs_id, moment, shot) for shot in moment.shots]
                moments.end_moment(held, ecs_id, image_id, moment, disks)
            if generalize:
                disks = generalizing.generalize_disks(held, image_id, disks)
            for disk in disks:
                images.note_disk(held, image_id, disk)
            images.begin_verification(held, image_id)
            if verify == "boot":
                verification.inspect_image(held, image_id)
                verification.check_boot(held, image_id)
        view = images.activate(held, image_id)
        files.discard_scratch(held)
        report_capture(held, image_id)
    return view
