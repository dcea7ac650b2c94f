"""Steps of the scheduled sweep of the inbox: what lies there, which objects no run works for, the report.

Each due object is handed to a run of its own, so that one that takes hours keeps nobody waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from models.accounts import list_accounts
from models.tables import utc_now
from tasks.engine.errors import PrefectUnavailable
from tasks.inboxes import InboxView, State, find_all, strays, views
from tasks.markdown import code, size, table
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, inbox_bucket

DEPLOYMENT = "import-announced"
UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
AT_ONCE = 20
"""Objects of one account that runs may wait or work for."""

MAX_RUNS = 200
STARTING = timedelta(minutes=5)
"""How long a run may take from being picked up to holding its object; one that does not is taken for dead."""

MAX_ROWS = 100


class SweepView(BaseModel):
    """What a sweep saw: how many objects in each state, those it started a run for, and what somebody should look at."""

    states: dict[str, int]
    started: list[str]
    postponed: int
    attention: list[InboxView]


@task(**RETRIED, task_run_name="look through the inbox")
def survey() -> list[InboxView]:
    """Every account's objects and how far they are, and what lies outside every account's folder."""
    bucket, waiting = inbox_bucket(), _waited_for()
    with catalog() as session:
        accounts = [account.name for account in list_accounts(session)]
    seen = []
    for account in accounts:
        good, bad = find_all(bucket, account)
        seen += views(account, good, waiting=waiting) + bad
    return seen + list(strays(bucket, accounts))


@task(**RETRIED, task_run_name="start imports")
def hand_over(seen: Sequence[InboxView]) -> list[InboxView]:
    """Start a run for each object that is due, as many as may be under way. Returns those."""
    started = choose(seen)
    for each in started:
        _start(each)
    return started


def choose(seen: Sequence[InboxView]) -> list[InboxView]:
    """The due objects that get a run now, the oldest first: of one account no more than may be under way."""
    busy = Counter(each.account for each in seen if each.state is State.UNDER_WAY)
    chosen: list[InboxView] = []
    for each in sorted((each for each in seen if each.state is State.DUE), key=lambda it: it.modified):
        if busy[each.account] < AT_ONCE and len(chosen) < MAX_RUNS:
            busy[each.account] += 1
            chosen.append(each)
    return chosen


@task(**ONCE, task_run_name="report")
def report_sweep(seen: Sequence[InboxView], started: Sequence[InboxView]) -> SweepView:
    """Publish what lies in the inbox, and what somebody should look at."""
    states = Counter(each.state.value for each in seen)
    attention = [each for each in seen if each.state in (State.REFUSED, State.IGNORED, State.PAUSED)]
    view = SweepView(
        states=dict(states),
        started=[each.whole_key for each in started],
        postponed=states[State.DUE.value] - len(started),
        attention=attention[:MAX_ROWS],
    )
    publish(key="inbox", text=sweep_markdown(view, len(attention)), title=f"Inbox: {len(started)} imports started")
    return view


def sweep_markdown(view: SweepView, attention: int) -> str:
    """The report of a sweep. Names of objects are shown as code, never rendered."""
    counts = [(state, str(count)) for state, count in sorted(view.states.items())] or [("empty", "0")]
    parts = [f"# Inbox\n\n{len(view.started)} imports started, {view.postponed} later.", table(("State", "Objects"), counts)]
    if view.started:
        parts.append(table(("Started",), [(code(name),) for name in view.started[:MAX_ROWS]]))
    if view.attention:
        rows = [
            (code(each.whole_key), size(each.size), each.state.value, each.code or "", code(each.message or "", limit=300))
            for each in view.attention
        ]
        more = f"\n\n{attention - len(rows)} more." if attention > len(rows) else ""
        parts.append(f"## To look at\n\n{table(('Object', 'Size', 'State', 'Code', 'Why'), rows)}{more}")
    return "\n\n".join(parts)


def _start(due: InboxView) -> None:
    """Hand the object to a worker; a repeated attempt of this step starts no second run."""
    run = FlowRunContext.get()
    sweep = run.flow_run.id if run and run.flow_run else utc_now().isoformat()
    try:
        run_deployment(
            name=f"{DEPLOYMENT}/{DEPLOYMENT}",
            parameters={"key": due.key, "account": due.account},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{due.version}-{sweep}",
        )
    except ObjectNotFound as error:
        raise PrefectUnavailable(f"no deployment {DEPLOYMENT} is registered", remedy="Run `ims up`.") from error


def _waited_for() -> set[tuple[str, str]]:
    """Account and key of each object that a run waits for, or has just begun to work for."""
    states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
    named = DeploymentFilter(name=DeploymentFilterName(any_=[DEPLOYMENT]))
    found: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(flow_run_filter=states, deployment_filter=named, limit=MAX_RUNS, offset=len(found)):
            found += page
    return {_subject(run.parameters) for run in found if _is_coming(run)}


def _is_coming(run: FlowRun) -> bool:
    """Not of a process that died before it held its object: what an object's own operation says counts then."""
    if run.state is None or run.state.type is StateType.SCHEDULED:
        return True
    return utc_now() - run.state.timestamp < STARTING


def _subject(parameters: dict[str, Any]) -> tuple[str, str]:
    return str(parameters.get("account", "")), str(parameters.get("key", ""))
