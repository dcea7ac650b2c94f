"""Reject: an image that another account shares is hidden; it may be accepted later. Needs the catalog alone."""

from __future__ import annotations

from prefect import flow

from tasks import sharing
from tasks.requests import AccountName, OfferedImage
from tasks.sagas import Call, saga
from tasks.sharing import MembersView


@flow(name="reject-share", flow_run_name="reject {image} for {account}", description=__doc__)
def reject_share(image: OfferedImage, account: AccountName = "admin") -> MembersView:
    """Reject a share, also one that was accepted before. Raises NotFound."""
    image_id = sharing.offered_id_of(account, image)
    with saga(Call(kind="reject-share", account=account, facts={"image": image_id})) as held:
        view = sharing.reject(held, image_id)
        sharing.report_shares(held, view, "rejected")
    return view
