"""Withdraw: a version on the marketplace is closed to new subscribers or to all; what runs lives on.

Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from models.vocabulary import WithdrawnFor
from tasks import publishing
from tasks.market_views import MarketView
from tasks.requests import AccountName, Scope, VersionId
from tasks.resources import prove
from tasks.sagas import Call, saga


@flow(name="withdraw-version", flow_run_name="withdraw {version} for {account}", description=__doc__)
def withdraw_version(version: VersionId, scope: Scope = WithdrawnFor.NEW, account: AccountName = "admin") -> MarketView:
    """Withdraw the account's own version, or anybody's as an operator. Raises NotFound, StateRefused for a rejected one."""
    prove(account)
    with saga(Call(kind="withdraw-version", account=account, facts={"version": version, "scope": scope})) as held:
        return publishing.withdraw(held, version, scope)
