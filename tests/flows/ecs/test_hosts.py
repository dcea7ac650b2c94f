"""Two hosts on one machine: work goes where its ECS is, and a worker that is killed in the middle costs nothing but the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import libvirt
import pytest
from commands import Outcome, Service
from prefect.client.orchestration import get_client
from second_host import NAME, SecondHost, seconds_until, start_second
from sqlmodel import select

from deployments.registering import host_names
from models.host_tables import Host
from models.tables import Ecs, Operation, utc_now
from models.vocabulary import EcsState, OperationState
from tasks.resources import catalog

pytestmark = [pytest.mark.server, pytest.mark.guest]
LIMIT = 120
"""Seconds within which what died is over."""


@pytest.fixture(scope="module")
def second(service: Service) -> Iterator[SecondHost]:
    host = start_second(service)
    try:
        yield host
    finally:
        for ecs in service.ims("ecs", "list")["ecs"]:
            if ecs["host"] == NAME:
                service.run("ecs", "delete", ecs["id"])
        host.end()
        shutil.rmtree(host.home, ignore_errors=True)


@pytest.fixture(scope="module")
def there(service: Service, second: SecondHost, sample_image: dict[str, Any]) -> dict[str, Any]:
    """An ECS that the first host asked for and the second runs."""
    return launch(service, sample_image, "there")


def launch(service: Service, image: dict[str, Any], name: str) -> dict[str, Any]:
    return service.ims("ecs", "launch", image["id"], "--name", name, "--flavor", "tiny", "--host", NAME)


def first_domains() -> list[str]:
    return [domain.name() for domain in libvirt.open("qemu:///system").listAllDomains()]


def operations(ecs_id: str, kind: str = "launch") -> list[Operation]:
    with catalog() as session:
        return list(session.exec(select(Operation).where(Operation.subject_id == ecs_id, Operation.kind == kind)).all())


def run_state(flow_run_id: str) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(flow_run_id)).state
    return state.type.value if state else ""


def test_both_hosts_report(service: Service, second: SecondHost) -> None:
    hosts = {host["name"]: host for host in service.ims("host", "list")["hosts"]}
    assert len(hosts) == 2
    assert hosts[NAME]["memory_mib"] > 0
    assert not any(host["silent"] for host in hosts.values())


def test_launch_from_the_first_runs_on_the_second_alone(there: dict[str, Any], second: SecondHost) -> None:
    assert (there["state"], there["host"], there["ready_by"]) == ("active", NAME, "agent")
    assert second.domains() == [f"ims-{there['id']}"]
    assert f"ims-{there['id']}" not in first_domains()


def test_run_there_is_a_part_of_the_run_here(there: dict[str, Any]) -> None:
    (operation,) = operations(there["id"])
    assert operation.lease_host == NAME
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(operation.flow_run_id))
        assert run.parent_task_run_id is not None
        assert run.work_pool_name == NAME


def test_domain_is_seen_from_here_once_the_address_says_how(
    service: Service, there: dict[str, Any], second: SecondHost
) -> None:
    assert service.ims("ecs", "show", there["id"])["domain"] == "elsewhere"
    assert service.ims("host", "add", NAME, "--uri", second.uri)["uri"] == second.uri
    assert service.ims("ecs", "show", there["id"])["domain"] == "running"


def test_capture_from_the_first_reads_the_disk_on_the_second(service: Service, there: dict[str, Any]) -> None:
    image = service.ims("ecs", "capture", there["id"], "--name", "taken-there", "--verify", "none", "--no-generalize")
    assert (image["state"], image["consistency"], image["source_ecs_id"]) == ("active", "filesystem", there["id"])
    assert [each.lease_host for each in operations(image["id"], "capture")] == [NAME]


def test_disk_at_hand_makes_the_second_the_choice(
    service: Service, there: dict[str, Any], sample_image: dict[str, Any]
) -> None:
    digest = sample_image["disks"][0]["digest"]

    def reported() -> bool:
        with catalog() as session:
            return digest in session.get_one(Host, NAME).cached

    seconds_until(reported, limit=30)


def test_refusal_there_is_the_refusal_here(service: Service, there: dict[str, Any], sample_image: dict[str, Any]) -> None:
    """It is another process on another host that refuses: an image with a system disk is not attached."""
    assert service.refused("ecs", "attach", there["id"], sample_image["id"]) == "request.image"


def test_drained_host_gets_no_launch_and_its_ecs_is_still_used(
    service: Service, there: dict[str, Any], sample_image: dict[str, Any]
) -> None:
    drained = service.ims("host", "drain", NAME)
    assert (drained["host"]["state"], [ecs["id"] for ecs in drained["ecs"]]) == ("draining", [there["id"]])
    refused = ["ecs", "launch", sample_image["id"], "--name", "not-there", "--flavor", "tiny", "--host", NAME]
    assert service.refused(*refused) == "host.draining"
    assert service.ims("ecs", "stop", there["id"])["state"] == "stopped"
    assert service.refused("host", "remove", NAME) == "host.in_use"
    assert service.ims("host", "resume", NAME)["host"]["state"] == "active"


def test_unknown_host_is_not_found(service: Service, sample_image: dict[str, Any]) -> None:
    arguments = ["ecs", "launch", sample_image["id"], "--name", "x", "--flavor", "tiny", "--host", "nowhere"]
    assert service.refused(*arguments) == "host.not_found"


def test_delete_from_the_first_leaves_nothing_on_the_second(
    service: Service, there: dict[str, Any], second: SecondHost
) -> None:
    assert service.ims("ecs", "delete", there["id"])["state"] == "deleted"
    assert second.domains() == []
    assert list((second.home / "ecs").iterdir()) == []


def test_worker_killed_in_a_launch_ends_it_cleanly_and_it_never_runs_twice(
    service: Service, second: SecondHost, sample_image: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        command = service.command("ecs", "launch", sample_image["id"], "--name", "killed", "--flavor", "tiny", "--host", NAME)
        asked = pool.submit(_run, service, command)
        seconds_until(lambda: bool(second.domains()), limit=120)  # the guest boots, so the launch waits for it
        assert len(second.runs()) == 1
        second.kill("worker")
        begun = time.monotonic()
        row = _row("killed")
        (operation,) = operations(row.id)
        assert (row.state, operation.state) == (EcsState.BUILDING, OperationState.RUNNING)
        seconds_until(lambda: operations(row.id)[0].state is OperationState.FAILED, limit=LIMIT)
        outcome = asked.result(timeout=LIMIT)
        taken = time.monotonic() - begun
    print(f"clean end {taken:.0f} s after kill -9")
    assert taken < LIMIT
    assert (outcome.status, outcome.code) == (3, "host.run")
    assert operation.flow_run_id is not None
    assert run_state(operation.flow_run_id) == "CRASHED"
    assert (_row("killed").state, _row("killed").error_code) == (EcsState.ERROR, "operation.abandoned")
    assert second.domains() == []
    assert [each.attempts for each in operations(row.id)] == [1]


def test_killed_worker_is_started_again(second: SecondHost) -> None:
    seconds_until(lambda: second.lives("worker"), limit=LIMIT)


def test_same_command_goes_on_there_although_who_asked_is_killed(
    service: Service, second: SecondHost, sample_image: dict[str, Any]
) -> None:
    """The run there is another host's matter; the run that waited for it has no operation, so the automation ends it."""
    before = _row("killed").id
    command = service.command("ecs", "launch", sample_image["id"], "--name", "killed", "--flavor", "tiny", "--host", NAME)
    with subprocess.Popen(command, env=service.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as asker:
        seconds_until(lambda: bool(second.domains()), limit=120)
        asker.kill()
    begun = time.monotonic()
    seconds_until(lambda: operations(before)[0].state is OperationState.DONE, limit=LIMIT)
    assert [each.attempts for each in operations(before)] == [2]
    assert (_row("killed").state, second.domains()) == (EcsState.ACTIVE, [f"ims-{before}"])
    asked = _asker_of(operations(before)[0])
    seconds_until(lambda: run_state(asked) == "CRASHED", limit=LIMIT)
    print(f"run of who asked crashed {time.monotonic() - begun:.0f} s after kill -9")


def _asker_of(operation: Operation) -> str:
    """The flow run that the operation's run is a part of."""
    with get_client(sync_client=True) as client:
        part = client.read_flow_run(UUID(operation.flow_run_id)).parent_task_run_id
        assert part is not None
        return str(client.read_task_run(part).flow_run_id)


def test_prefect_server_killed_in_a_launch_is_outlived_or_ends_it_cleanly(
    service: Service, second: SecondHost, sample_image: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        command = service.command("ecs", "launch", sample_image["id"], "--name", "outlived", "--flavor", "tiny", "--host", NAME)
        asked = pool.submit(_run, service, command)
        seconds_until(lambda: len(second.domains()) == 2, limit=120)
        row, begun = _row("outlived"), time.monotonic()
        os.kill(service.ims("status")["services"]["prefect"]["pid"], signal.SIGKILL)
        service.ims("up")
        seconds_until(lambda: operations(row.id)[0].state is not OperationState.RUNNING, limit=LIMIT)
        outcome = asked.result(timeout=LIMIT)
        taken = time.monotonic() - begun
    print(f"{outcome.answer.get('state', outcome.code)} {taken:.0f} s after the server was killed")
    assert taken < LIMIT
    there = f"ims-{row.id}" in second.domains()
    assert (_row("outlived").state, outcome.status, there) in [(EcsState.ACTIVE, 0, True), (EcsState.ERROR, 3, False)]
    assert [each.attempts for each in operations(row.id)] == [1]
    service.ims("ecs", "delete", row.id)


def test_host_that_is_silent_gets_no_work(service: Service, second: SecondHost) -> None:
    second.kill("watcher")
    _make_silent()
    assert service.refused("ecs", "stop", "killed", status=3) == "host.silent"
    second.ims("up")
    assert service.ims("ecs", "delete", "killed")["state"] == "deleted"


def test_host_that_is_cut_off_in_a_launch_is_given_up_and_finds_its_way_back(
    service: Service, second: SecondHost, sample_image: dict[str, Any]
) -> None:
    """Everything of the host stands still, as others see one that they cannot reach; then it wakes."""
    with ThreadPoolExecutor(1) as pool:
        command = service.command("ecs", "launch", sample_image["id"], "--name", "cut-off", "--flavor", "tiny", "--host", NAME)
        asked = pool.submit(_run, service, command)
        seconds_until(lambda: bool(second.domains()), limit=120)
        row, begun = _row("cut-off"), time.monotonic()
        with second.standing_still("worker", "watcher"):
            seconds_until(lambda: operations(row.id)[0].state is OperationState.FAILED, limit=LIMIT)
            outcome = asked.result(timeout=LIMIT)
            print(f"given up {time.monotonic() - begun:.0f} s after the host was cut off")
            assert (outcome.status, outcome.code) == (3, "host.silent")
            assert _row("cut-off").state is EcsState.ERROR
    seconds_until(lambda: not second.runs(), limit=LIMIT)
    second.ims("reconcile")
    assert second.domains() == []
    assert (_row("cut-off").state, operations(row.id)[0].attempts) == (EcsState.ERROR, 1)


def test_lost_host_goes_with_its_ecs_and_leaves_no_deployment(service: Service, second: SecondHost) -> None:
    assert service.refused("host", "remove", NAME, "--lost") == "host.reporting"
    second.kill("watcher")
    _make_silent()
    assert service.refused("host", "remove", NAME) == "host.in_use"
    removed = service.ims("host", "remove", NAME, "--lost")
    assert (removed["state"], [(ecs["name"], ecs["state"]) for ecs in removed["ecs"]]) == ("removed", [("cut-off", "deleted")])
    with catalog() as session:
        left = [(ecs.name, ecs.state) for ecs in session.exec(select(Ecs).where(Ecs.host == NAME)).all()]
    assert {state for _, state in left} == {EcsState.DELETED}
    with get_client(sync_client=True) as client:
        found = {deployment.name for deployment in client.read_deployments(limit=200)}
    assert not found & host_names(NAME)


def _run(service: Service, command: list[str]) -> Outcome:
    done = subprocess.run(command, capture_output=True, text=True, env=service.environment())
    return Outcome(done.returncode, json.loads(done.stdout), done.stderr)


def _make_silent() -> None:
    """As if minutes had passed since its last report."""
    with catalog(write=True) as session:
        host = session.get_one(Host, NAME)
        host.seen_at = utc_now() - timedelta(minutes=5)
        session.add(host)


def _row(name: str) -> Ecs:
    with catalog() as session:
        return session.exec(select(Ecs).where(Ecs.name == name)).one()
