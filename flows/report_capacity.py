"""Report on catalog and capacity: images by type and state, logical against stored bytes, who holds most, how fast runs are.

For operators; the deployment runs it every night. It changes nothing. Needs the catalog and the store.
"""

from __future__ import annotations

from prefect import flow

from tasks import capacity
from tasks.capacity_report import CapacityView
from tasks.requests import AccountName, ReportDays
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="report-capacity", flow_run_name="report on capacity for {account}", description=__doc__)
def report_capacity(account: AccountName = "admin", days: ReportDays = 30) -> CapacityView:
    """Publish the report as an artifact. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="report on capacity")
    with saga(Call(kind="report-capacity", account=account)) as held:
        view = capacity.look(days)
        view.store = capacity.list_store()
        return capacity.report_capacity(held, view)
