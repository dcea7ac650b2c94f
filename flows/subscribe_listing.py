"""Subscribe: an account accepts the licence of a marketplace product and may launch it. Needs the catalog alone."""

from __future__ import annotations

from prefect import flow

from tasks import publishing
from tasks.market_views import SubscriptionView
from tasks.requests import AccountName, LicenceDigest, Listed
from tasks.sagas import Call, saga


@flow(name="subscribe-listing", flow_run_name="subscribe {account} to {listing}", description=__doc__)
def subscribe_listing(listing: Listed, licence: LicenceDigest, account: AccountName = "admin") -> SubscriptionView:
    """Accept the licence that was read. Raises NotFound, RequestRefused where the licence is another one by now."""
    listing_id = publishing.listing_id_of(account, listing)
    with saga(Call(kind="subscribe", account=account, facts={"listing": listing_id, "licence": licence})) as held:
        return publishing.subscribe(held, listing_id, licence)
