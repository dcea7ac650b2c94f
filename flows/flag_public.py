"""Flag public: an operator shows an own image to every account, once it has passed the publish gate; or takes it back.

Needs the catalog, this host's libvirt, NBD server and libguestfs.
"""

from __future__ import annotations

from prefect import flow

from models.vocabulary import Purpose
from tasks import gate, images, public
from tasks.requests import AccountName, Identifier, Public
from tasks.sagas import Call, saga
from tasks.views import ImageView


@flow(name="flag-public", flow_run_name="flag {image} public for {account}", description=__doc__)
def flag_public(image: Identifier, account: AccountName = "admin", on: Public = True) -> ImageView:
    """Show an image to all, or no longer. Raises NotFound, StateRefused for no operator or an image that the gate rejects."""
    image_id = images.image_id_of(account, image)
    public.require_operator_of(account, image_id)
    with saga(Call(kind="flag-public", account=account, facts={"image": image_id, "on": on})) as held:
        if not on:
            return public.take_back(held, image_id)
        gate.require_gate(account, image_id)
        gate.scan_disk(image_id)
        gate.prove_boot(held, image_id)
        return public.show_to_all(held, image_id, gate.judge(held, image_id, Purpose.PUBLIC))
