"""Automations that no stanza of prefect.yaml can say: a run whose heartbeat has stopped is marked as crashed.

A killed process tells nobody. What it was doing is closed by the reconciliation that its host's watcher starts
(`deployments.watching`); this is for what has no operation, such as a run that waits for another host.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from deployments.embedded.site import HEARTBEAT_SECONDS

NAME = "ims: crash runs that have stopped"
MISSED = 3
"""Heartbeats, and as long as that without an end or a rest: then nobody runs it."""
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS_OR_RESTS = ("Completed", "Failed", "Cancelled", "Crashed", "Cancelling", "Suspended", "Paused")


def apply_automations() -> None:
    """Make the automation, or bring the one of that name to what it should be; whether it is switched on stays."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        present = client.read_automations_by_name(NAME)
        if not present:
            client.create_automation(_automation(enabled=True))
        elif _trigger(present[0]) != _trigger(_automation(enabled=True)):
            client.update_automation(present[0].id, _automation(enabled=present[0].enabled))


def _trigger(automation: Any) -> dict[str, Any]:
    shown: dict[str, Any] = automation.trigger.model_dump(exclude={"id"})
    return shown


def _automation(*, enabled: bool) -> Any:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    trigger = EventTrigger(
        after={HEARTBEAT},
        expect={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in ENDS_OR_RESTS)},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification({"prefect.resource.role": ["flow"], "prefect.resource.name": sorted(_flows())}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=MISSED * HEARTBEAT_SECONDS),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, message="Its process gave no sign of life any more.")
    return AutomationCore(name=NAME, description=__doc__ or "", enabled=enabled, trigger=trigger, actions=[crash])


def _flows() -> set[str]:
    """Others may share the server, and their heartbeats may be slower."""
    from deployments.registering import deployment_names

    return deployment_names()
