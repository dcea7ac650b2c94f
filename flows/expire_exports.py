"""Expire exports: files that were exported to the exports bucket are removed when their time is up.

For operators; the deployment runs it every hour. How long they stay is the setting IMS_EXPORT_DAYS. Objects in that bucket
which no export wrote are left alone. Needs the catalog and the store; safe to kill and to run again.
"""

from __future__ import annotations

from prefect import flow

from tasks import exported
from tasks.exported import ExportsView
from tasks.requests import AccountName, ExportDays
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="expire-exports", flow_run_name="expire exports for {account}", description=__doc__)
def expire_exports(account: AccountName = "admin", days: ExportDays = None) -> ExportsView:
    """Remove exported files that are old enough. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="expire exports")
    with saga(Call(kind="expire-exports", account=account)) as held:
        view = exported.remove_expired(held, days)
        return exported.report_exports(held, view)
