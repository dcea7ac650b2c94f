"""Rescan: what the marketplace offers goes through the gate again. For operators; the deployment runs it every night.

A new finding is an event (`ims.version.finding`) and, by policy, withdraws the version. A rescan costs an appliance only where
the gate's rules have changed since the last. Needs the catalog, and then this host's NBD server and libguestfs.
"""

from __future__ import annotations

from prefect import flow

from tasks import rescanning
from tasks.requests import AccountName, Policy
from tasks.rescanning import RescanView
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="rescan-listed", flow_run_name="rescan the marketplace for {account}", description=__doc__)
def rescan_listed(account: AccountName = "admin", policy: Policy = "notify") -> RescanView:
    """Look again at every version that somebody may launch. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="rescan the marketplace")
    with saga(Call(kind="rescan", account=account, facts={"policy": policy})) as held:
        view = rescanning.rescan_all(held, policy)
        rescanning.report_rescan(view, policy)
    return view
