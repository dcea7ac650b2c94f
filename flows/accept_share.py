"""Accept: an image that another account shares becomes launchable. What is accepted is its digest. Needs the catalog alone."""

from __future__ import annotations

from prefect import flow

from tasks import sharing
from tasks.requests import AccountName, ContentDigest, OfferedImage
from tasks.sagas import Call, saga
from tasks.sharing import MembersView


@flow(name="accept-share", flow_run_name="accept {image} for {account}", description=__doc__)
def accept_share(image: OfferedImage, account: AccountName = "admin", digest: ContentDigest = None) -> MembersView:
    """Accept a share, also one that was rejected before. Raises NotFound, RequestRefused for another digest."""
    image_id = sharing.offered_id_of(account, image)
    with saga(Call(kind="accept-share", account=account, facts={"image": image_id, "digest": digest})) as held:
        view = sharing.accept(held, image_id, digest)
        sharing.report_shares(held, view, "accepted")
    return view
