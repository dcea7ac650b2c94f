"""The production stack's combination as real processes: PostgreSQL with TLS and passwords, Redis, two Prefect servers and the
background services behind HAProxy, S3 under TLS with a restricted user, and a host brought up by `ims up` as README says.

What stands for what, and what was not run (MinIO, Compose): `running.py` and deployments/README.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from running import BUCKETS, Stack, await_that, log_of, running_stack

from deployments import embedded
from flows.cli import main
from tasks.engine.blobs.manifests import manifest_key
from tasks.engine.blobs.objects import Missing
from tasks.engine.blobs.s3 import open_bucket
from tasks.engine.errors import StateRefused
from tasks.engine.settings import load_settings
from tasks.resources import _engine

pytestmark = pytest.mark.server
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@pytest.fixture(scope="module")
def stack(open_folder: Path) -> Iterator[Stack]:
    folder = open_folder / "stack"
    folder.mkdir(mode=0o711)
    with running_stack(folder) as running:
        for bucket in BUCKETS:
            open_bucket(running.s3.address, bucket).create()
        yield running


@pytest.fixture(scope="module")
def host(stack: Stack) -> Iterator[Path]:
    """A host of the stack: its IMS_HOME, with worker and agent up."""
    home = stack.folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("IMS_", "PREFECT_"))]:
            patch.delenv(name)
        for name, value in {**stack.environment("host"), "IMS_HOME": str(home), "IMS_HOST": "stack-host"}.items():
            patch.setenv(name, value)
        try:
            status = embedded.up(load_settings())
            assert status.all_running, status
            with prefect_at(stack):
                yield home
        finally:
            _engine(load_settings().catalog_url).dispose()
            embedded.down(load_settings())


@contextmanager
def prefect_at(stack: Stack) -> Iterator[None]:
    """Point this process's Prefect at the stack, whenever it was imported, and spare each flow the wait for its heartbeat."""
    updates = {
        PREFECT_API_URL: stack.api_url,
        PREFECT_API_AUTH_STRING: stack.env["IMS_PREFECT_AUTH"],
        PREFECT_API_SSL_CERT_FILE: str(stack.ca_file),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(updates):
        yield
        EventsWorker.drain_all(timeout=30)  # it keeps the server that it began with


def ims(*arguments: str) -> dict[str, Any]:
    """A command of `ims` that must succeed, in this process, which saves its imports."""
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said):
        status = main([*arguments, "--json"])
    assert status == 0, (arguments, printed.getvalue(), said.getvalue()[-2000:])
    return dict(json.loads(printed.getvalue()))


def start_import(home: Path, name: str) -> str:
    """Hand an import of a small data disk to the worker; gives the run's id."""
    disk = home / f"{name}.raw"
    disk.write_bytes(os.urandom(3 << 20) + bytes(5 << 20))
    return str(
        ims("image", "import", str(disk), "--name", name, "--format", "raw", "--verify", "none", "--detach")["flow_run_id"]
    )


def state_of(stack: Stack, run: str) -> dict[str, Any]:
    """The run's state: `type` and `message`."""
    with stack.client() as client:
        return dict(client.get(f"/flow_runs/{run}").raise_for_status().json()["state"])


def complete(stack: Stack, run: str) -> None:
    """Wait for its end, which must be a good one."""
    state = await_that(lambda: (now := state_of(stack, run))["type"] in ENDED and now, f"run {run} does not end")
    assert state["type"] == "COMPLETED", state


def test_host_embeds_nothing_that_the_stack_has(host: Path) -> None:
    names = set(embedded.status(load_settings()).services)
    assert {"agent", "worker"} <= names
    assert not names & {"s3", "prefect"}


def test_import_completes_although_a_prefect_server_is_killed_and_so_does_the_next(stack: Stack, host: Path) -> None:
    first = start_import(host, "first")
    await_that(lambda: state_of(stack, first)["type"] == "RUNNING", "the run does not start")
    stack.kill("prefect-api-1")
    complete(stack, first)
    complete(stack, start_import(host, "second"))
    assert {(it["name"], it["state"]) for it in ims("image", "list")["images"]} == {("first", "active"), ("second", "active")}
    assert len(list(open_bucket(stack.s3.address, "ims-images").list("manifests/"))) == 2


def test_backup_restores_as_a_pair_of_which_the_older_decides(stack: Stack, host: Path, tmp_path: Path) -> None:
    """Catalog first, then bucket, as deployments/README.md says. A catalog newer than its bucket names what that lacks."""
    images = open_bucket(stack.s3.address, "ims-images")
    dump_catalog(stack, tmp_path / "ims.dump")
    later = import_here(host, "later")["disks"][0]["digest"]
    saved = {info.key: images.get(info.key, limit=info.size) for info in images.list("")}
    newest = import_here(host, "newest")["disks"][0]["digest"]

    for info in images.list(""):
        images.delete(info.key)
    for key, body in saved.items():
        images.put(key, body)
    with pytest.raises(Missing):  # the catalog of today names what the bucket of yesterday lacks
        images.stat(manifest_key(newest))
    assert images.stat(manifest_key(later))

    restore_catalog(stack, tmp_path / "ims.dump")
    assert {it["name"] for it in ims("image", "list")["images"]} == {"first", "second"}
    ims("reconcile")
    strange = "unknown; its disks are in"  # guests of others on this machine
    assert [it for it in ims("reconcile")["findings"] if strange not in it["found"]] == []
    exported = ims("image", "export", "first", "--format", "raw", "--to", str(tmp_path / "first.raw"))
    assert exported["sha256"] == hashlib.sha256((host / "first.raw").read_bytes()).hexdigest()
    assert import_here(host, "later")["bytes_new"] == 0  # what the bucket has beyond the catalog harms nobody


def dump_catalog(stack: Stack, target: Path) -> None:
    command = ["pg_dump", "--format", "custom", "--dbname", catalog_url(stack), "--file", str(target)]
    subprocess.run(command, check=True)


def restore_catalog(stack: Stack, source: Path) -> None:
    subprocess.run(["pg_restore", "--clean", "--if-exists", "--dbname", catalog_url(stack), str(source)], check=True)


def catalog_url(stack: Stack) -> str:
    return stack.postgres.url.replace("/postgres?", "/ims?")


def import_here(home: Path, name: str) -> dict[str, Any]:
    """Import a disk without a worker; the same disk again where it was made before."""
    disk = home / f"{name}.raw"
    if not disk.exists():
        disk.write_bytes(os.urandom(2 << 20))
    return ims("image", "import", str(disk), "--name", name, "--format", "raw", "--verify", "none")


def test_background_services_schedule_for_both_servers(stack: Stack, host: Path) -> None:
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    with stack.client() as client:
        assert await_that(lambda: client.post("/flow_runs/filter", json=wanted).json(), log_of(stack, "prefect-services"))


def test_event_reaches_automations_through_redis(stack: Stack) -> None:
    trigger = {"type": "event", "expect": ["ims.stack.rung"], "posture": "Reactive", "threshold": 1, "within": 0}
    with stack.client() as client:
        body = {"name": "rung", "trigger": trigger, "actions": [{"type": "do-nothing"}]}
        automation = client.post("/automations/", json=body).raise_for_status().json()["id"]
        event = {
            "occurred": "2026-01-01T00:00:00Z",
            "event": "ims.stack.rung",
            "resource": {"prefect.resource.id": "ims.stack"},
            "id": "00000000-0000-4000-8000-000000000001",
        }
        fired = {"filter": {"event": {"name": ["prefect.automation.triggered"]}, "occurred": {"since": "2026-01-01T00:00:00Z"}}}
        client.post("/events", json=[event]).raise_for_status()
        seen = await_that(lambda: client.post("/events/filter", json=fired).json()["events"], "the automation does not fire")
    assert {it["resource"]["prefect.resource.id"] for it in seen} == {f"prefect.automation.{automation}"}


def test_address_asks_for_a_login(stack: Stack) -> None:
    with stack.client(login="admin:wrong") as client:
        assert client.post("/flow_runs/filter", json={}).status_code == 401


def test_s3_user_reaches_the_three_buckets_and_no_fourth(stack: Stack) -> None:
    open_bucket(stack.s3.address, "fourth").create()
    open_bucket(stack.s3.address, "fourth").put("key", b"secret")
    restricted = replace(
        stack.s3.address,
        endpoint=f"127.0.0.1:{stack.ports['published-s3']}",
        access_key=stack.env["IMS_S3_ACCESS_KEY"],
        secret_key=stack.env["IMS_S3_SECRET_KEY"],
    )
    for bucket in BUCKETS:
        open_bucket(restricted, bucket).put("probe", b"own")
        assert open_bucket(restricted, bucket).get("probe", limit=3) == b"own"
        open_bucket(restricted, bucket).delete("probe")
    other = open_bucket(restricted, "fourth", patience=0)
    for call in (
        lambda: other.put("key", b"x"),
        lambda: other.get("key", limit=9),
        lambda: list(other.list("")),
        lambda: other.delete("key"),
        open_bucket(restricted, "fifth", patience=0).create,
    ):
        with pytest.raises(StateRefused, match="refuses these credentials"):
            call()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"dbname": "prefect"}, "permission denied"),
    ],
)
def test_database_wants_tls_password_and_the_right_owner(stack: Stack, options: dict[str, str], reason: str) -> None:
    known = {"host": "127.0.0.1", "port": stack.ports["published-postgres"], "user": "ims", "dbname": "ims"}
    trusted = {"password": stack.env["IMS_DB_PASSWORD"], "sslmode": "verify-full", "sslrootcert": str(stack.ca_file)}
    psycopg.connect(**known, **trusted).close()
    with pytest.raises(psycopg.OperationalError, match=reason):
        psycopg.connect(**{**known, **trusted, **options})
