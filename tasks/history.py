"""Steps that forget old scheduled runs which changed nothing. Which those are is `models.history`."""

from __future__ import annotations

from datetime import timedelta

from prefect import task
from pydantic import BaseModel

from models.history import SCHEDULED, forget_runs
from models.operations import heartbeat
from models.tables import utc_now
from tasks.engine.settings import load_settings
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog
from tasks.sagas import Saga

BATCH = 500
BATCHES = 200
"""Of one run; the next one goes on."""


class HistoryView(BaseModel):
    """What a run forgot; `days` is None where nothing is ever forgotten."""

    days: int | None
    operations: int = 0
    rows: int = 0


@task(**RETRIED, task_run_name="forget old runs")
def forget(saga: Saga) -> HistoryView:
    """In batches, each a transaction of its own, as old as the setting says."""
    days = load_settings().history_days
    view = HistoryView(days=days or None)
    if not days:
        return view
    before = utc_now() - timedelta(days=days)
    for _ in range(BATCHES):
        with catalog(write=True) as session:
            heartbeat(session, lease=saga.held)
            gone = forget_runs(session, before=before, limit=BATCH, by=saga.actor)
        view.operations += gone.operations
        view.rows += gone.rows
        if gone.operations < BATCH:
            break
    return view


@task(**ONCE, task_run_name="report")
def report_history(saga: Saga, view: HistoryView) -> HistoryView:
    """Publish what was forgotten."""
    kinds = ", ".join(SCHEDULED)
    words = (
        f"Runs of {kinds} that changed nothing, older than {view.days} days: {view.operations} forgotten, with {view.rows} rows"
    )
    text = f"{words} of the trail about them." if view.days else "IMS_HISTORY_DAYS is 0: every run is kept."
    publish(key="forgotten-runs", text=f"# Old runs\n\n{text}", title="Forgotten runs")
    saga.result = view.model_dump(mode="json")
    return view
