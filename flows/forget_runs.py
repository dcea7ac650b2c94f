"""Forget runs: operations of schedules that changed nothing go when they are old, with the rows of the trail about them alone.

For operators; the deployment runs it every week. How long they stay is the setting IMS_HISTORY_DAYS; one row of the trail says
how many went. Operations on images, ECSs, shares and versions, and all else in the trail, are kept. Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from tasks import history
from tasks.history import HistoryView
from tasks.requests import AccountName
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="forget-runs", flow_run_name="forget runs for {account}", description=__doc__)
def forget_runs(account: AccountName = "admin") -> HistoryView:
    """Forget what is old enough. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="forget runs")
    with saga(Call(kind="forget-runs", account=account)) as held:
        view = history.forget(held)
        return history.report_history(held, view)
