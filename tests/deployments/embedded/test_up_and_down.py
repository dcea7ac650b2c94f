"""`up`, `status` and `down` with the real servers, in an IMS_HOME of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from minio import Minio

from deployments import embedded, registering, stopped_runs
from deployments.embedded import environment, libvirt_services, ports, probes, processes, provisioning, services
from deployments.embedded import site as sites
from deployments.registering import Place, Scope
from tasks.engine.errors import RequestRefused
from tasks.engine.settings import Settings, load_settings

pytestmark = pytest.mark.server
UP = "from deployments import embedded; from tasks.engine.settings import load_settings; embedded.up(load_settings())"
LISTENING = "0A"
"""In /proc/net/tcp: state of a listening socket."""


def records(home: Path) -> dict[str, processes.Record]:
    """What is recorded as started, by service."""
    names = [path.stem for path in (home / "run").glob("*.json")]
    return {name: record for name in names if (record := services.read_record(home, name))}


def own_states(status: embedded.Status) -> dict[str, str]:
    """States of what an IMS_HOME has for itself; libvirt serves the whole machine."""
    return {name: it.state for name, it in status.services.items() if name not in libvirt_services.NAMES}


def store(settings: Settings) -> Minio:
    key = settings.s3_secret_key.get_secret_value()
    return Minio(settings.s3_endpoint, access_key=settings.s3_access_key, secret_key=key, secure=False, region="us-east-1")


def listening_addresses(pids: set[int]) -> set[str]:
    """Addresses (hex, as the kernel shows them) that these processes listen on."""
    inodes = {os.readlink(link) for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in inodes}


def kill(settings: Settings, name: str) -> None:
    os.kill(embedded.status(settings).services[name].pid or 0, signal.SIGKILL)
    time.sleep(0.3)


def test_up_runs_everything(site_settings: Settings) -> None:
    status = embedded.status(site_settings)
    assert status.all_running, status
    assert {"s3", "prefect", "agent", "worker", "inbox"} <= set(status.services)


def test_up_listens_on_loopback_only(site_settings: Settings) -> None:
    pids = {pid for record in records(site_settings.home).values() for pid in processes.descendants(record.token)}
    assert listening_addresses(pids) == {"0100007F"}


def test_up_makes_buckets_and_admin(site_settings: Settings) -> None:
    assert {bucket.name for bucket in store(site_settings).list_buckets()} >= {"ims-images", "ims-inbox", "ims-exports"}
    assert (site_settings.home / "admin.key").read_text().strip() == environment.read(site_settings.home)["IMS_API_KEY"]


def test_up_shows_no_secret_in_arguments(site_settings: Settings) -> None:
    known = environment.read(site_settings.home)
    secrets = [known[name] for name in ("IMS_S3_SECRET_KEY", "IMS_PREFECT_AUTH", "IMS_API_KEY", "IMS_INBOX_TOKEN")]
    for record in records(site_settings.home).values():
        for pid in processes.descendants(record.token):
            arguments = Path(f"/proc/{pid}/cmdline").read_text()
            assert not any(secret in arguments for secret in secrets)


def test_prefect_without_login_refuses(site_settings: Settings) -> None:
    url = site_settings.prefect_api_url
    assert probes.http_status(f"{url}/admin/version") == 401
    login = sites.look_up(site_settings).login
    assert probes.prefect_call(url, "/admin/version", login=login)


def test_second_up_is_quick_and_starts_nothing(site_settings: Settings) -> None:
    before = records(site_settings.home)
    start = time.monotonic()
    embedded.up(site_settings)
    assert records(site_settings.home) == before
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", ["s3", "agent", "worker", "inbox"])
def test_up_after_kill_starts_that_one_again(site_settings: Settings, name: str) -> None:
    before = records(site_settings.home)
    kill(site_settings, name)
    assert embedded.status(site_settings).services[name].state == "failed"
    embedded.up(site_settings)
    changed = {service for service, record in records(site_settings.home).items() if before[service] != record}
    assert changed == {name}
    assert embedded.status(site_settings).all_running


def test_store_keeps_its_data_when_killed(site_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"kept")
    store(site_settings).fput_object("ims-inbox", "it", str(tmp_path / "it"))
    kill(site_settings, "s3")
    embedded.up(site_settings)
    store(site_settings).fget_object("ims-inbox", "it", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"kept"


def test_two_ups_at_once_start_one_of_each(site_settings: Settings) -> None:
    for name in ("agent", "worker"):
        kill(site_settings, name)
    racers = [subprocess.Popen([sys.executable, "-c", UP]) for _ in range(2)]
    assert [racer.wait(timeout=120) for racer in racers] == [0, 0]
    assert embedded.status(site_settings).all_running
    leaders = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if serves_here(pid, site_settings.home)]
    assert len(leaders) == 1


def serves_here(pid: int, home: Path) -> bool:
    """Whether it is a worker of this home."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"worker\0start" in arguments and f"IMS_HOME={home}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def test_scheduled_deployment_gets_runs(site_settings: Settings) -> None:
    """Some versions of SQLAlchemy make Prefect schedule nothing, silently."""
    url, login = site_settings.prefect_api_url, sites.look_up(site_settings).login
    flow = probes.prefect_call(url, "/flows/", login=login, body={"name": "pins"})
    schedule = {"active": True, "schedule": {"interval": 3600, "anchor_date": "2026-01-01T00:00:00Z"}}
    body = {"name": "pins", "flow_id": flow["id"], "schedules": [schedule]}
    deployment = probes.prefect_call(url, "/deployments/", login=login, body=body)
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    deadline = time.monotonic() + 90
    while not (runs := probes.prefect_call(url, "/flow_runs/filter", login=login, body=wanted)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}


def test_deployments_are_registered_for_this_host(site_settings: Settings) -> None:
    login = sites.look_up(site_settings).login
    place = Place(host=site_settings.host, pool=site_settings.work_pool, scope=Scope.OWN)
    assert registering.is_registered(site_settings.prefect_api_url, login=login, place=place)
    elsewhere = Place(host=site_settings.host, pool="another", scope=Scope.OWN)
    assert not registering.is_registered(site_settings.prefect_api_url, login=login, place=elsewhere)


def test_run_whose_heartbeat_stops_is_crashed_and_no_other(site_settings: Settings) -> None:
    """Silence counts while the server answers; a run that never gave a sign of life is not judged by their absence."""
    url, login = site_settings.prefect_api_url, sites.look_up(site_settings).login

    def ask(path: str, body: Mapping[str, object] | None) -> Any:
        return probes.prefect_call(url, path, login=login, body=body)

    def begun(name: str, *, heartbeat_age: float | None) -> str:
        flow = ask("/flows/", {"name": "probe"})["id"]
        run = str(ask("/flow_runs/", {"name": name, "flow_id": flow, "state": {"type": "RUNNING"}})["id"])
        if heartbeat_age is not None:
            beat(run, age=heartbeat_age)
        return run

    def beat(run: str, *, age: float) -> None:
        occurred = (datetime.now(UTC) - timedelta(seconds=age)).isoformat()
        event = {"event": stopped_runs.HEARTBEAT, "id": str(uuid4()), "occurred": occurred}
        ask("/events", [{**event, "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"}}])

    def seen(run: str) -> bool:
        found = ask("/events/filter", {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}}})
        return any(each["event"] == stopped_runs.HEARTBEAT for each in found["events"])

    dead, quiet, alive = (begun(name, heartbeat_age=age) for name, age in (("dead", 50), ("quiet", None), ("alive", 50)))
    deadline = time.monotonic() + 30
    while not (seen(dead) and seen(alive)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    times = iter([0.0, 20.0, 40.0, 71.0, 90.0, 110.0, 131.0, 150.0])  # of 31 s nobody answered
    runs = stopped_runs.StoppedRuns(ask, flows={"probe"}, clock=lambda: next(times))
    assert [runs.look() for _ in range(4)] == [[], [], [], []]
    beat(alive, age=0)
    while len(ask("/events/filter", stopped_runs._beats([alive], within=30))["events"]) == 0:
        assert time.monotonic() < deadline + 30
        time.sleep(0.5)
    assert [runs.look() for _ in range(4)] == [[], [], [dead], []]
    states = {run: ask(f"/flow_runs/{run}", None)["state_type"] for run in (dead, quiet, alive)}
    assert states == {dead: "CRASHED", quiet: "RUNNING", alive: "RUNNING"}


def test_killed_worker_is_started_again_by_the_watcher(site_settings: Settings) -> None:
    before = records(site_settings.home)["worker"]
    kill(site_settings, "worker")
    deadline = time.monotonic() + 120
    while records(site_settings.home).get("worker") in (None, before):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    embedded.up(site_settings)
    assert embedded.status(site_settings).all_running


def test_run_that_a_killed_worker_had_taken_and_not_begun_is_run_by_the_next(site_settings: Settings) -> None:
    def ask(path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = probes.prefect_call(site_settings.prefect_api_url, path, login=login, body=body) or {}
        return answer

    login = sites.look_up(site_settings).login
    deployment = ask("/deployments/name/leave-share/leave-share")["id"]
    taken = {"state": {"type": "PENDING", "name": "Submitting"}, "parameters": {"image": "no-such-image"}}
    run = ask(f"/deployments/{deployment}/create_flow_run", taken)["id"]
    kill(site_settings, "worker")
    embedded.up(site_settings)
    deadline = time.monotonic() + 120
    while (found := ask(f"/flow_runs/{run}"))["state_type"] != "FAILED":
        assert time.monotonic() < deadline, found["state_name"]
        time.sleep(0.5)
    assert "image.not_found" in found["state"]["message"]


def taken(call: Callable[[], httpx.Response]) -> None:
    """A call until the server, which answers 503 while its database is busy, has taken it."""
    deadline = time.monotonic() + 60
    while (answer := call()).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.5)
    answer.raise_for_status()


def test_redeploy_keeps_what_an_operator_set(site_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    site = sites.look_up(site_settings)
    wanted = {"deployments": {"name": {"any_": ["capture-series"]}}}
    with httpx.Client(base_url=site_settings.prefect_api_url, auth=tuple(site.login.split(":", 1)), timeout=30) as client:
        before = client.post("/deployments/filter", json=wanted).json()[0]
        path, nightly = f"/deployments/{before['id']}", before["schedules"][0]["id"]
        taken(lambda: client.patch(path, json={"parameters": {"ecs": ["web"], "keep": 3}}))
        taken(lambda: client.patch(f"{path}/schedules/{nightly}", json={"active": False}))
        noon = {"active": True, "schedule": {"cron": "0 12 * * *", "timezone": "UTC"}}
        taken(lambda: client.post(f"{path}/schedules", json=[noon]))
        monkeypatch.setattr(registering, "release", lambda: "next")
        provisioning.register_deployments(site)
        after = client.get(path).json()
    assert (after["version"], after["parameters"]) == ("next", {"ecs": ["web"], "keep": 3})
    shown = {(it["slug"], it["schedule"]["cron"], it["active"]) for it in after["schedules"]}
    assert shown == {("nightly", "0 2 * * *", False), (None, "0 12 * * *", True)}


def test_down_leaves_nothing_and_up_brings_it_back(site_settings: Settings) -> None:
    tokens = [record.token for name, record in records(site_settings.home).items() if name not in libvirt_services.NAMES]
    assert set(own_states(embedded.down(site_settings)).values()) == {"stopped"}
    assert [pid for token in tokens for pid in processes.descendants(token)] == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMS_S3_PORT", str(moved := ports.public_port("IMS_NO_SUCH_PORT", remembered=None, usual=28444)))
        status = embedded.up(load_settings())
    assert status.all_running
    assert status.services["s3"].address == f"http://127.0.0.1:{moved}"
    assert "it" in {item.object_name for item in store(load_settings()).list_objects("ims-inbox")}


def test_up_on_a_port_that_is_taken_says_which_setting(site_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = site_settings.prefect_api_url.rpartition(":")[2].partition("/")[0]
    monkeypatch.setenv("IMS_S3_PORT", taken)
    with pytest.raises(RequestRefused, match=f"port {taken} of IMS_S3_PORT is taken"):
        embedded.up(load_settings())


def test_metrics_are_served_while_a_port_is_named(site_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "metrics" not in own_states(embedded.status(site_settings))
    monkeypatch.setenv("IMS_METRICS_PORT", str(ports.public_port("IMS_NO_SUCH_PORT", remembered=None, usual=29464)))
    status = embedded.up(load_settings())
    assert own_states(status)["metrics"] == "running"
    token = (site_settings.home / "metrics.token").read_text().strip()
    answer = httpx.get(status.services["metrics"].address, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, "ims_images_data_bytes 0.0" in answer.text) == (200, True)
    monkeypatch.delenv("IMS_METRICS_PORT")
    embedded.up(load_settings())
    assert "metrics" not in records(site_settings.home)
    assert probes.http_status(status.services["metrics"].address) is None
