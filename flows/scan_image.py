"""Scan: the publish gate for an image of one's own.

Does it boot, is its system supported, what is left in it that others must not get? Nothing is changed. The report lists every
finding with its path inside the image and a remedy; a package list (CycloneDX) is kept with it.
Needs the catalog, this host's libvirt, NBD server and libguestfs.
"""

from __future__ import annotations

from prefect import flow

from models.vocabulary import Purpose
from tasks import gate, images
from tasks.gate_report import ScanView
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga


@flow(name="scan-image", flow_run_name="scan {image} for {account}", description=__doc__)
def scan_image(image: Identifier, account: AccountName = "admin") -> ScanView:
    """Put the account's own image through the gate. Raises NotFound, StateRefused for one that cannot be for others."""
    image_id = images.image_id_of(account, image)
    gate.require_gate(account, image_id)
    with saga(Call(kind="scan", account=account, facts={"image": image_id})) as held:
        gate.scan_disk(image_id)
        gate.prove_boot(held, image_id)
        return gate.judge(held, image_id, Purpose.CHECK)
