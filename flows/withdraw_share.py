"""Withdraw: the owner takes an image back from accounts. Nothing new is launched from then on; what runs lives on.

Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from tasks import images, sharing
from tasks.requests import AccountName, Identifier, Recipients
from tasks.sagas import Call, saga
from tasks.sharing import MembersView


@flow(name="withdraw-share", flow_run_name="withdraw {image} for {account}", description=__doc__)
def withdraw_share(image: Identifier, accounts: Recipients, account: AccountName = "admin") -> MembersView:
    """End shares of the account's own image. Raises NotFound for an image, or for an account that is no member."""
    image_id = images.image_id_of(account, image)
    with saga(Call(kind="withdraw-share", account=account, facts={"image": image_id, "accounts": accounts})) as held:
        view = sharing.withdraw(held, image_id, accounts)
        sharing.report_shares(held, view, "withdrawn")
    return view
