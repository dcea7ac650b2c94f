"""Watch the inbox: every object that no run works for and that is not imported yet gets a run of its own.

The deployment runs it every other minute. It catches what a notification missed, and everything where the store sends none.
For operators; safe to kill and to run again. Needs the store and the catalog.
"""

from __future__ import annotations

from prefect import flow

from tasks import sweeping
from tasks.requests import AccountName
from tasks.resources import prove_operator
from tasks.sweeping import SweepView


@flow(name="watch-inbox", flow_run_name="watch the inbox for {account}", description=__doc__)
def watch_inbox(account: AccountName = "admin") -> SweepView:
    """Start what is due and report. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="watch the inbox")
    seen = sweeping.survey()
    started = sweeping.hand_over(seen)
    return sweeping.report_sweep(seen, started)
