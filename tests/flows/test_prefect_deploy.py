"""prefect.yaml on a real server: every schedule makes runs and every trigger starts its deployment. Without a server:
tests/deployments/embedded/test_prefect_file.py.

A stanza of this test's own is deployed beside the file's by Prefect's plain command, so that each kind of schedule and a
trigger with typed parameters is proved whatever the file has. The host's pool is paused meanwhile: started is enough, running
is not wanted; only the own stanza's run is let go, to its end.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Service
from prefect.events import emit_event
from prefect.flows import load_flow_from_entrypoint
from ruamel.yaml import YAML

from deployments import registering
from tasks.engine.settings import load_settings

pytestmark = pytest.mark.server
SECONDS = 90
DECLARED: list[dict[str, Any]] = YAML(typ="safe").load(registering.PREFECT_FILE)["deployments"]
OWN_FILE = """
name: ims
pull: []
definitions:
  kind: &kind {work_pool: {name: "{{ $IMS_HOST }}"}, version: own, concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}}
deployments:
  - name: own-probe
    <<: *kind
    entrypoint: flows.reconcile.reconcile
    parameters: {dry_run: true}
    schedules:
      - {cron: "30 3 * * *", timezone: Europe/Berlin, slug: own-cron, active: true}
      - {interval: 7200, slug: own-interval, active: true, parameters: {remove_strangers: false}}
      - {rrule: "FREQ=DAILY;BYHOUR=6;BYMINUTE=0;BYSECOND=0", timezone: UTC, slug: own-rule, active: true}
      - {interval: 3600, slug: own-off, active: false}
    triggers:
      - {type: event, name: own-trigger, match: {prefect.resource.id: "ims.probe.*"}, expect: [ims.probe.rung],
         posture: Reactive, threshold: 1, within: 0,
         parameters: {account: "{{ event.payload.account }}", dry_run: "{{ event.payload.dry_run }}"}}
"""
OWN: list[dict[str, Any]] = YAML(typ="safe").load(OWN_FILE)["deployments"]
STANZAS = [*DECLARED, *OWN]
SAMPLES = {"string": "admin", "boolean": True, "integer": 1, "number": 1.0, "array": [], "object": {}}


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    user, _, word = (service.home / "prefect.login").read_text().strip().partition(":")
    with httpx.Client(base_url=load_settings().prefect_api_url, auth=(user, word), timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def own(service: Service, api: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The own stanza, deployed by Prefect's command while the pool is paused; gone afterwards with its automation and runs."""
    pool = f"/work_pools/{load_settings().host}"
    file = tmp_path_factory.mktemp("own") / "prefect.yaml"
    file.write_text(OWN_FILE)
    api.patch(pool, json={"is_paused": True}).raise_for_status()
    deploy(service, file)
    stopped = list(stopped_schedules(api))
    switch(api, stopped, active=True)
    try:
        yield (made := deployment(api, OWN[0]))
    finally:
        switch(api, stopped, active=False)
        for run in runs_of(api, made["id"]):
            insisted(lambda run=run: api.delete(f"/flow_runs/{run['id']}"))
        insisted(lambda: api.delete(f"/deployments/{made['id']}"))
        insisted(lambda: api.patch(pool, json={"is_paused": False}))


def stopped_schedules(api: httpx.Client) -> Iterator[str]:
    """Addresses of those that the file has active and that other tests want to be still."""
    for stanza in DECLARED:
        made = deployment(api, stanza)
        wanted = active(stanza.get("schedules", [])) - active(made["schedules"])
        yield from (f"/deployments/{made['id']}/schedules/{it['id']}" for it in made["schedules"] if it["slug"] in wanted)


def switch(api: httpx.Client, schedules: list[str], *, active: bool) -> None:
    """Again while the server is busy: it makes and drops runs of that schedule meanwhile."""
    for path in schedules:
        insisted(lambda path=path: api.patch(path, json={"active": active}))


def insisted(ask: Callable[[], httpx.Response]) -> None:
    """Again while the server is busy: on SQLite it answers 503, or late."""

    def taken() -> bool:
        try:
            answer = ask()
        except httpx.TimeoutException:
            return False
        return answer.is_success or answer.status_code == httpx.codes.NOT_FOUND

    awaited(taken, "the server does not take it")


def deploy(service: Service, file: Path) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    names = {"PREFECT_HOME": str(service.home / "prefect"), "PREFECT_PROFILE": "ims", "IMS_HOST": load_settings().host}
    subprocess.run(command, check=True, env={**os.environ, **names}, capture_output=True, timeout=120)


def deployment(api: httpx.Client, stanza: dict[str, Any]) -> dict[str, Any]:
    flow = stanza["entrypoint"].rpartition(".")[2].replace("_", "-")
    return dict(api.get(f"/deployments/name/{flow}/{stanza['name']}").raise_for_status().json())


def runs_of(api: httpx.Client, deployment_id: str) -> list[dict[str, Any]]:
    wanted = {"deployments": {"id": {"any_": [deployment_id]}}, "limit": 200}
    return list(api.post("/flow_runs/filter", json=wanted).raise_for_status().json())


def awaited(look: Callable[[], Any], what: str) -> Any:
    """What `look` sees as soon as it sees anything."""
    deadline = time.monotonic() + SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
    return seen


def active(schedules: list[dict[str, Any]]) -> set[str]:
    return {it["slug"] for it in schedules if it["active"]}


def moments(api: httpx.Client, made: dict[str, Any], slug: str) -> list[datetime]:
    """When the runs that this schedule made are to start."""
    (schedule,) = [it for it in made["schedules"] if it["slug"] == slug]
    runs = [run for run in runs_of(api, made["id"]) if (run["created_by"] or {}).get("id") == schedule["id"]]
    assert all(run["auto_scheduled"] for run in runs)
    return sorted(datetime.fromisoformat(run["expected_start_time"]) for run in runs)


def test_every_stanza_is_a_deployment_as_it_says(api: httpx.Client, own: dict[str, Any]) -> None:
    for stanza in STANZAS:
        made = deployment(api, stanza)
        assert (made["entrypoint"], made["work_pool_name"]) == (stanza["entrypoint"], load_settings().host)
        assert made["tags"] == stanza.get("tags", [])
        assert made["global_concurrency_limit"]["limit"] == stanza["concurrency_limit"]["limit"]
        assert made["concurrency_options"]["collision_strategy"] == stanza["concurrency_limit"]["collision_strategy"]
        assert {it["slug"] for it in made["schedules"]} >= {it["slug"] for it in stanza.get("schedules", ())}


def test_runs_wait_in_a_queue_with_the_limit_of_their_deployment(service: Service, api: httpx.Client) -> None:
    """As `ims up` registers it; `prefect deploy` by hand knows no queue's limit."""
    pool = load_settings().host
    found = api.post(f"/work_pools/{pool}/queues/filter", json={"limit": 200}).raise_for_status().json()
    limits = {each["name"]: each["concurrency_limit"] for each in found}
    declared = {it["name"]: it["concurrency_limit"] for it in DECLARED}
    enqueued = {name: it["limit"] for name, it in declared.items() if it["collision_strategy"] == "ENQUEUE"}
    waiting = {name: limit for name, limit in enqueued.items() if limit <= registering.FEW}
    assert {"import-image", "import-announced", "capture-ecs"} <= set(waiting)
    assert {name: limits.get(name) for name in waiting} == waiting


def test_every_active_schedule_makes_runs(api: httpx.Client, own: dict[str, Any]) -> None:
    for stanza in STANZAS:
        made = deployment(api, stanza)
        assert active(made["schedules"]) >= active(stanza.get("schedules", []))
        for slug in active(stanza.get("schedules", [])):
            assert awaited(lambda made=made, slug=slug: moments(api, made, slug), f"{stanza['name']}: {slug} makes no run")


def test_runs_are_made_for_the_times_that_a_schedule_says(api: httpx.Client, own: dict[str, Any]) -> None:
    times = {slug: awaited(lambda slug=slug: moments(api, own, slug), slug) for slug in active(OWN[0]["schedules"])}
    assert {(it.hour, it.minute) for it in times["own-rule"]} == {(6, 0)}
    assert {(it.hour, it.minute) for it in times["own-cron"]} <= {(1, 30), (2, 30)}  # Berlin's summer and winter, in UTC
    assert {(later - it).seconds for it, later in zip(times["own-interval"], times["own-interval"][1:], strict=False)} == {7200}
    assert moments(api, own, "own-off") == []


def triggers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(stanza, trigger) for stanza in STANZAS for trigger in stanza.get("triggers", ())]


def automation(api: httpx.Client, made: dict[str, Any], trigger: dict[str, Any]) -> dict[str, Any]:
    found = api.get(f"/automations/related-to/prefect.deployment.{made['id']}").raise_for_status().json()
    (one,) = [it for it in found if it["name"] == trigger["name"]]
    return dict(one)


def sample(stanza: dict[str, Any], parameter: str) -> object:
    """A value that this parameter's form would take."""
    shape = load_flow_from_entrypoint(stanza["entrypoint"]).parameters.properties[parameter]
    given = [*shape.get("examples", ()), *([shape["default"]] if "default" in shape else ())]
    return given[0] if given else SAMPLES[shape.get("type", "string")]


def ring(stanza: dict[str, Any], trigger: dict[str, Any]) -> None:
    """An event as the trigger expects it, with a value for everything that its parameters take from the payload."""
    names = {name: re.findall(r"event\.payload\.(\w+)", str(text)) for name, text in trigger["parameters"].items()}
    payload = {key: sample(stanza, name) for name, keys in names.items() for key in keys}
    resource = trigger.get("match", {}).get("prefect.resource.id", "ims.probe.*").replace("*", "probe")
    emit_event(event=trigger["expect"][0], resource={"prefect.resource.id": resource}, payload=payload)


def asked_for(api: httpx.Client, made: dict[str, Any], before: set[str]) -> list[dict[str, Any]]:
    """The runs that no schedule made and that are new since `before`."""
    return [it for it in runs_of(api, made["id"]) if it["id"] not in before and not it["auto_scheduled"]]


def test_every_trigger_is_an_automation_and_an_event_starts_its_deployment(api: httpx.Client, own: dict[str, Any]) -> None:
    for stanza, trigger in triggers():
        made = deployment(api, stanza)
        held = automation(api, made, trigger)
        assert (held["enabled"], held["trigger"]["expect"]) == (True, trigger["expect"])
        before = {it["id"] for it in runs_of(api, made["id"])}
        ring(stanza, trigger)
        caused = awaited(lambda made=made, before=before: asked_for(api, made, before), trigger["name"])
        assert {(it["created_by"] or {}).get("type") for it in caused} == {"AUTOMATION"}
        assert set(trigger["parameters"]) <= set(caused[0]["parameters"])
        for run in caused:
            api.delete(f"/flow_runs/{run['id']}").raise_for_status()


def test_run_of_a_trigger_has_typed_parameters_and_completes(api: httpx.Client, own: dict[str, Any]) -> None:
    before = {it["id"] for it in runs_of(api, own["id"])}
    ring(OWN[0], OWN[0]["triggers"][0])
    new = awaited(lambda: asked_for(api, own, before), "no run")
    assert new[0]["parameters"] == {"account": "admin", "dry_run": sample(OWN[0], "dry_run")}
    api.patch(f"/work_pools/{load_settings().host}", json={"is_paused": False}).raise_for_status()
    path, ended = f"/flow_runs/{new[0]['id']}", {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    done = awaited(lambda: (now := api.get(path).json())["state_type"] in ended and now, "it does not end")
    assert done["state_type"] == "COMPLETED", done["state"]
