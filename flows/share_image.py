"""Share: the owner offers an image to other accounts, for good or for some days.

An account sees it after it has accepted; what it accepts is the digest it was shown. Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from tasks import images, sharing
from tasks.requests import AccountName, Identifier, Recipients, ShareDays
from tasks.sagas import Call, saga
from tasks.sharing import MembersView


@flow(name="share-image", flow_run_name="share {image} for {account}", description=__doc__)
def share_image(image: Identifier, accounts: Recipients, account: AccountName = "admin", days: ShareDays = None) -> MembersView:
    """Offer the account's own active image. Raises NotFound, StateRefused, QuotaExceeded for the 129th member."""
    image_id = images.image_id_of(account, image)
    facts = {"image": image_id, "accounts": accounts, "days": days}
    with saga(Call(kind="share", account=account, facts=facts)) as held:
        view = sharing.offer(held, image_id, accounts, days)
        sharing.report_shares(held, view, "offered")
    return view
