"""What steps share: which failures are tried again, how long between tries, and that nothing is cached behind our back.

A step's truth is in the catalog and in the store, so Prefect's result cache is off: a repeated step looks there instead.
"""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun

from tasks.engine.errors import Unavailable

FlowTask = Task[..., Any]


class StepPolicy(TypedDict, total=False):
    """Keyword arguments of `prefect.task` that a policy sets."""

    retries: int
    retry_delay_seconds: list[float]
    retry_jitter_factor: float
    retry_condition_fn: Any
    cache_policy: CachePolicy
    persist_result: bool


def only_unavailable(_task: FlowTask, _run: TaskRun, state: State[Any]) -> bool:
    """True for failures that may pass by themselves; a refusal is never tried again."""
    return isinstance(state.result(raise_on_failure=False), Unavailable)


RETRIED: StepPolicy = {
    "retries": 3,
    "retry_delay_seconds": [2, 5, 15],
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": only_unavailable,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Steps that lose nothing by running again: transfers, reads, boots."""

ONCE: StepPolicy = {"retries": 0, "cache_policy": NO_CACHE, "persist_result": False}
"""Steps whose failure a person wants to hear of at once."""
