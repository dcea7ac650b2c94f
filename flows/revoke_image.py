"""Revoke: an image, and if asked all that descends from it, is deactivated; the report names the ECSs that run any of it.

What the marketplace offers of them is withdrawn for all. Owners revoke their own images, operators anybody's.
Needs the catalog alone; nothing that runs is stopped.
"""

from __future__ import annotations

from prefect import flow

from tasks import revoking
from tasks.requests import AccountName, Descendants, Identifier
from tasks.revoking import RevocationView
from tasks.sagas import Call, saga


@flow(name="revoke-image", flow_run_name="revoke {image} for {account}", description=__doc__)
def revoke_image(image: Identifier, descendants: Descendants = False, account: AccountName = "admin") -> RevocationView:
    """Deactivate an image and its descendants. Raises NotFound for one that the account may not revoke."""
    image_id = revoking.revocable_id_of(account, image)
    with saga(Call(kind="revoke", account=account, facts={"image": image_id, "descendants": descendants})) as held:
        found = revoking.find_images(held, image_id, descendants)
        revoked = [revoking.revoke(held, each) for each in found]
        return revoking.report_revocation(held, image_id, revoked)
