"""Export: an image's disk as a file in a format that other hypervisors read, at a path or behind a presigned URL.

Needs the store, the catalog and this host's NBD server, which QEMU reads the disk from inside its cage.
"""

from __future__ import annotations

from prefect import flow

from tasks import images, outgoing
from tasks.outgoing import ExportView
from tasks.requests import AccountName, DiskIndex, ExportFormat, Identifier, Target
from tasks.sagas import Call, saga


@flow(name="export-image", flow_run_name="export {image} as {format} for {account}", description=__doc__)
def export_image(
    image: Identifier,
    format: ExportFormat,
    account: AccountName = "admin",
    to: Target = None,
    disk: DiskIndex = 0,
) -> ExportView:
    """Write one disk of a visible, active image to a new file. Raises NotFound, StateRefused, HostUnavailable."""
    image_id = images.image_id_of(account, image)
    facts = {"image": image_id, "format": format.value, "to": to, "disk": disk}
    with saga(Call(kind="export", account=account, facts=facts), undo=outgoing.undo_export) as held:
        path = outgoing.write_file(held, image_id, disk, format, to)
        view = outgoing.hand_out(held, path, format, to)
        outgoing.report_export(held, view)
    return view
