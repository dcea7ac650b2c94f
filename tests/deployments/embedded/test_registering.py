"""What registration keeps of a deployment that an operator edited. With a real server: test_up_and_down.py."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from deployments.registering import ON_HOSTS, Place, Scope, as_operated, deployment_names, wanted_stanzas

NIGHTLY = {"cron": "0 2 * * *", "timezone": "UTC", "slug": "nightly", "active": True}
STANZA = {
    "name": "capture-series",
    "entrypoint": "flows.capture_series.capture_series",
    "parameters": {"keep": 5, "series": "file"},
    "schedules": [NIGHTLY],
}


ONE = {"limit": 1, "collision_strategy": "CANCEL_NEW"}
CONTENT = {
    "deployments": [
        {"name": "expire-offers", "entrypoint": "flows.expire_offers.expire_offers", "concurrency_limit": ONE},
        {
            "name": "launch-ecs",
            "entrypoint": "flows.launch_ecs.launch_ecs",
            "concurrency_limit": {"limit": 4, "collision_strategy": "ENQUEUE"},
        },
        {
            "name": "reconcile",
            "entrypoint": "flows.reconcile.reconcile",
            "concurrency_limit": ONE,
            "schedules": [{"interval": 900, "slug": "reconcile", "active": True}],
        },
    ]
}


def pools(scope: Scope, *present: str) -> dict[str, tuple[str, bool]]:
    """Pool of each deployment that the host `b` gets, and whether it has a schedule; `present` are on pool `a`."""
    known = {name: DeploymentResponse(name=name, flow_id=uuid4(), work_pool_name="a", schedules=[]) for name in present}
    found = wanted_stanzas(CONTENT, Place(host="b", pool="pool-b", scope=scope), known)
    return {each["name"]: (each["work_pool"]["name"], bool(each.get("schedules"))) for each in found}


def test_what_runs_where_an_ecs_is_has_a_stanza() -> None:
    assert set(ON_HOSTS) < deployment_names()


def test_host_of_its_own_server_has_everything_and_one_schedule() -> None:
    found = pools(Scope.OWN, "launch-ecs", "attach-disk")
    assert {pool for pool, _ in found.values()} == {"pool-b"}
    assert {name for name, (_, scheduled) in found.items() if scheduled} == {"reconcile"}
    assert {"launch-ecs", "launch-ecs@b", "reconcile@b"} <= set(found)
    assert "expire-offers@b" not in found


def test_every_run_of_a_worker_says_often_enough_that_it_lives() -> None:
    for each in wanted_stanzas(CONTENT, Place(host="b", pool="pool-b", scope=Scope.OWN), {}):
        assert each["work_pool"]["job_variables"]["env"] == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


def test_runs_that_wait_for_each_other_do_so_in_a_queue_of_their_own() -> None:
    found = wanted_stanzas(CONTENT, Place(host="b", pool="pool-b", scope=Scope.OWN), {})
    queues = {each["name"]: each["work_pool"].get("work_queue_name") for each in found}
    waiting = {"launch-ecs": "launch-ecs", "launch-ecs@b": "launch-ecs@b"}
    assert queues == {**waiting, "expire-offers": None, "reconcile": None, "reconcile@b": None}


def test_second_host_leaves_the_deployments_of_the_first_where_they_are() -> None:
    found = pools(Scope.KEEP, "expire-offers", "launch-ecs", "attach-disk", "reconcile")
    assert found["launch-ecs"] == ("a", False)
    assert found["launch-ecs@b"] == ("pool-b", False)
    assert found["reconcile@b"] == ("pool-b", True)


def test_second_host_makes_what_no_host_has_made() -> None:
    assert pools(Scope.KEEP)["expire-offers"] == ("pool-b", False)


def test_host_that_is_added_from_elsewhere_gets_its_own_deployments_alone() -> None:
    assert set(pools(Scope.HOST)) == {"launch-ecs@b", "reconcile@b"}


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
