"""Leave: the account gives a share back. Only its owner can offer it again. Needs the catalog alone."""

from __future__ import annotations

from prefect import flow

from tasks import sharing
from tasks.requests import AccountName, OfferedImage
from tasks.sagas import Call, saga
from tasks.sharing import MembersView


@flow(name="leave-share", flow_run_name="leave {image} for {account}", description=__doc__)
def leave_share(image: OfferedImage, account: AccountName = "admin") -> MembersView:
    """End the account's own share. Raises NotFound."""
    image_id = sharing.offered_id_of(account, image)
    with saga(Call(kind="leave-share", account=account, facts={"image": image_id})) as held:
        view = sharing.leave(held, image_id)
        sharing.report_shares(held, view, "left")
    return view
