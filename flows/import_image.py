"""Import: an external disk file becomes an image.

Header check, quota, transfer with chunk-level resume, operating system, boot proof, activation. Safe to kill and run again:
the same name and source (or idempotency key) continue the same image and send only what the store lacks.
Needs the store, the catalog and, for system disks, this host's libvirt and NBD server.
"""

from __future__ import annotations

from prefect import flow

from tasks import files, images, verification
from tasks.disks import store_disk
from tasks.reports import report_image
from tasks.requests import AccountName, Checksum, DeclaredFormat, ImportOptions, Name, Source, Verify
from tasks.sagas import Call, saga
from tasks.views import ImageView


@flow(name="import-image", flow_run_name="import {name} for {account}", description=__doc__, retries=0)
def import_image(
    source: Source,
    name: Name,
    account: AccountName = "admin",
    format: DeclaredFormat = DeclaredFormat.AUTO,
    checksum: Checksum = None,
    verify: Verify = "boot",
    options: ImportOptions = ImportOptions(),  # noqa: B008  # immutable in use, and the form shows its fields
) -> ImageView:
    """Make an image of an external file. Raises Refused for what somebody must change, Unavailable for what may pass."""
    call = Call(kind="import", account=account, key=options.idempotency_key, facts={"name": name, "source": source})
    with saga(call, undo=files.undo_import) as held:
        if held.result is not None:
            return ImageView.model_validate(held.result)
        image_id = images.activated(held)
        if image_id is None:
            files.check_services()
            size = files.preflight(held.account, source, format, checksum, options.etag)
            facts = images.request_facts(source, format, checksum, size=size)
            image_id = images.queue_image(held, name, facts, options)
            path = files.obtain_file(held, source, checksum, options.etag)
            disks = files.examine_file(held, path, format)
            images.reserve_space(held, image_id, disks[0].format, sum(disk.virtual_size for disk in disks))
            for disk in disks:
                images.note_disk(held, image_id, store_disk(held, disk))
            images.begin_verification(held, image_id)
            verification.inspect_image(held, image_id)
            if verify == "boot":
                verification.check_boot(held, image_id)
        view = images.activate(held, image_id)
        files.discard_scratch(held)
        report_image(held, image_id)
    return view
