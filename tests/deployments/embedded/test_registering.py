"""What registration keeps of a deployment that an operator edited. With a real server: test_up_and_down.py."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.registering import as_operated

NIGHTLY = {"cron": "0 2 * * *", "timezone": "UTC", "slug": "nightly", "active": True}
STANZA = {
    "name": "capture-series",
    "entrypoint": "flows.capture_series.capture_series",
    "parameters": {"keep": 5, "series": "file"},
    "schedules": [NIGHTLY],
}


def operated(**values: Any) -> dict[str, Any]:
    return as_operated(STANZA, DeploymentResponse(name="capture-series", flow_id=uuid4(), **values))


def schedule(timing: CronSchedule | IntervalSchedule, **values: Any) -> DeploymentSchedule:
    return DeploymentSchedule(schedule=timing, **values)


def test_new_deployment_is_what_the_file_says() -> None:
    assert as_operated(STANZA, None) == STANZA


def test_parameters_of_the_server_win_over_those_of_the_file() -> None:
    assert operated(parameters={"ecs": ["web"], "keep": 3})["parameters"] == {"ecs": ["web"], "keep": 3, "series": "file"}


def test_parameter_that_the_flow_no_longer_has_is_left_out() -> None:
    assert "gone" not in operated(parameters={"gone": 1})["parameters"]


def test_pause_and_switched_off_schedule_stay() -> None:
    off = schedule(CronSchedule(cron="30 4 * * *", timezone="Europe/Berlin"), active=False, slug="nightly")
    kept = operated(paused=True, schedules=[off])
    assert kept["paused"] is True
    (only,) = kept["schedules"]
    assert (only["cron"], only["timezone"], only["slug"], only["active"]) == ("30 4 * * *", "Europe/Berlin", "nightly", False)


def test_schedule_added_in_the_ui_stays_beside_that_of_the_file() -> None:
    kept = operated(schedules=[schedule(IntervalSchedule(interval=7200), active=True, parameters={"series": "often"})])
    added, nightly = kept["schedules"]
    assert (added["interval"], added["parameters"], "slug" in added) == (7200.0, {"series": "often"}, False)
    assert nightly == NIGHTLY
