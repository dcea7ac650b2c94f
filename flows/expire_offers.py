"""Expire: shares whose time has come end, and versions that no reviewer answered for in time are rejected.

For operators; the deployment runs it every quarter of an hour. What has expired is closed at once; this run makes it visible.
Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from tasks import expiring
from tasks.expiring import ExpiryView
from tasks.requests import AccountName
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="expire-offers", flow_run_name="expire offers for {account}", description=__doc__)
def expire_offers(account: AccountName = "admin") -> ExpiryView:
    """End what has run out. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="expire offers")
    with saga(Call(kind="expire", account=account)) as held:
        shares = expiring.end_shares(held)
        reviews = expiring.end_reviews(held)
        return expiring.report_expiry(held, shares, reviews)
