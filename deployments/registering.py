"""Applies prefect.yaml to the Prefect server: a host's work pool, one deployment for every stanza, and one more on each host
for what must run where an ECS is, `<verb>@<host>`.

The deployments without a host's name are on the pool of the host that embeds the server, else on that of the host which first
registered them; another host leaves them there.

What an operator set on a deployment stays. Prefect's own deploy would reset its parameters, its schedules and its pause to what
the file says, and would drop a schedule that somebody added in the UI; so each stanza is first brought to what the server has.
The file decides for deployments and schedules that are new; a schedule that is not wanted is switched off, not deleted.

Run as `python -m deployments.registering HOST SCOPE` with PREFECT_HOME, IMS_HOST (the pool) and IMS_RELEASE set. Each
deployment's version is the digest of prefect.yaml and the code behind it, so `is_registered` needs one question to know that
nothing is to be done.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from deployments.embedded.probes import prefect_call
from deployments.embedded.site import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

ROOT = Path(__file__).parents[1]
PREFECT_FILE = ROOT / "prefect.yaml"
CODE = ("flows", "tasks", "models")
ON_HOSTS = ("attach-disk", "capture-ecs", "delete-ecs", "launch-ecs", "reconcile", "start-ecs", "stop-ecs")
"""What runs where an ECS is."""
FEW = 4
"""Of what runs more at once, runs are short and seldom wait: the default queue will do, and fewer queues are polled."""


class Scope(StrEnum):
    """What is registered beside the host's own deployments: all on its pool, all where they are, or nothing."""

    OWN = "own"
    KEEP = "keep"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host, the work pool that serves it, and how much is registered with it."""

    host: str
    pool: str
    scope: Scope

    @property
    def names(self) -> set[str]:
        """The deployments that it needs."""
        return host_names(self.host) | (set() if self.scope is Scope.HOST else deployment_names())

    def pool_of(self, name: str, present: str | None) -> str:
        """Where a deployment belongs, given where it is."""
        kept = self.scope is Scope.KEEP and name in deployment_names()
        return present if kept and present else self.pool


def release() -> str:
    """Digest of what decides the deployments and their forms."""
    files = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    digest = hashlib.sha256(PREFECT_FILE.read_bytes())
    for path in files:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def deployment_names() -> set[str]:
    return {stanza["name"] for stanza in _load_file()["deployments"]}


def host_names(host: str) -> set[str]:
    """The deployments of one host."""
    return {f"{name}@{host}" for name in ON_HOSTS}


def is_registered(api_url: str, *, login: str, place: Place) -> bool:
    """Whether the server holds every deployment of this very code for this host."""
    body: dict[str, object] = {"deployments": {"name": {"any_": sorted(place.names)}}}
    found = prefect_call(api_url, "/deployments/filter", login=login, body=body) or []
    code = release()
    current = {
        item["name"] for item in found if _is_current(place, item["name"], item["version"], item["work_pool_name"], code)
    }
    return current == place.names


def _is_current(place: Place, name: str, version: str | None, pool: str | None, code: str) -> bool:
    return version == code and pool == place.pool_of(name, pool)


def wanted_stanzas(
    content: Mapping[str, Any], place: Place, present: Mapping[str, DeploymentResponse]
) -> Iterator[dict[str, Any]]:
    """Every stanza that the host needs, each as it is operated."""
    known = present.get(ON_HOSTS[0])
    home = place.pool_of(ON_HOSTS[0], known.work_pool_name if known else None) if place.scope is not Scope.HOST else None
    for stanza in content["deployments"]:
        name = stanza["name"]
        if home is not None:
            yield as_operated({**stanza, "work_pool": _served_by(home, stanza, name)}, present.get(name))
        if name in ON_HOSTS:
            # Where the deployment without a host's name is on this pool, its schedule is this host's.
            schedules = stanza.get("schedules", []) if home != place.pool else []
            name = f"{name}@{place.host}"
            own = {**stanza, "name": name, "work_pool": _served_by(place.pool, stanza, name), "schedules": schedules}
            yield as_operated(own, present.get(own["name"]))


def _served_by(pool: str, stanza: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The pool, and what its workers tell each run: the watchers count on heartbeats, whoever started the worker.

    Where many runs wait for each other they wait in a queue of their own with the deployment's limit. In a shared one the
    worker is given all of them, and the server turns away and reschedules every one beyond the limit, again and again: a
    hundred kept a server on SQLite from doing anything else.
    """
    limit = stanza["concurrency_limit"]
    waits = limit["collision_strategy"] == "ENQUEUE" and limit["limit"] <= FEW
    queue = {"work_queue_name": name} if waits else {}
    return {"name": pool, **queue, "job_variables": {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}}}


def as_operated(stanza: Mapping[str, Any], deployment: DeploymentResponse | None) -> dict[str, Any]:
    """The stanza with what an operator set on its deployment; a parameter that the flow no longer has is left out."""
    if deployment is None:
        return dict(stanza)
    known = _parameters_of(stanza["entrypoint"])
    kept = {name: value for name, value in deployment.parameters.items() if name in known}
    schedules = [_schedule_stanza(schedule) for schedule in deployment.schedules]
    present = {schedule.get("slug") for schedule in schedules}
    added = [schedule for schedule in stanza.get("schedules", ()) if schedule.get("slug") not in present]
    return {
        **stanza,
        "parameters": {**stanza.get("parameters", {}), **kept},
        "paused": bool(deployment.paused),
        "schedules": schedules + added,
    }


def _schedule_stanza(schedule: DeploymentSchedule) -> dict[str, Any]:
    """A schedule of the server as prefect.yaml spells it."""
    timing = schedule.schedule.model_dump(mode="json", exclude_none=True)
    slug = {"slug": schedule.slug} if schedule.slug else {}
    return {**timing, **slug, "active": schedule.active, "parameters": schedule.parameters}


def _parameters_of(entrypoint: str) -> set[str]:
    module, _, name = entrypoint.rpartition(".")
    return set(inspect.signature(getattr(importlib.import_module(module), name).fn).parameters)


def _load_file() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(PREFECT_FILE)
    return content


def _present(place: Place) -> dict[str, DeploymentResponse]:
    """The server's deployments among those that are wanted, by name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    wanted = DeploymentFilter(name=DeploymentFilterName(any_=sorted(place.names)))
    with get_client(sync_client=True) as client:
        return {found.name: found for found in client.read_deployments(deployment_filter=wanted)}


def _make_queues(stanzas: list[dict[str, Any]]) -> None:
    """The stanzas' own queues, each with its limit; what an operator set on one that is there stays."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for stanza in stanzas:
            pool, limit = stanza["work_pool"], stanza["concurrency_limit"]["limit"]
            if queue := pool.get("work_queue_name"):
                with suppress(ObjectAlreadyExists):
                    client.create_work_queue(name=queue, concurrency_limit=limit, work_pool_name=pool["name"])


def _write_operated_file(path: Path, place: Place) -> None:
    """What is current already is left out: another host may have registered most of it. Makes the queues that are named."""
    content, present, code = _load_file(), _present(place), os.environ["IMS_RELEASE"]
    current = {name for name, each in present.items() if _is_current(place, name, each.version, each.work_pool_name, code)}
    content["deployments"] = [each for each in wanted_stanzas(content, place, present) if each["name"] not in current]
    _make_queues(content["deployments"])
    YAML(typ="safe").dump(content, path)


def _make_work_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        except ObjectAlreadyExists:  # the worker was faster, or it is there since last time
            return


def forget(host: str) -> None:
    """Take a host's deployments away; their runs stay."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    wanted = DeploymentFilter(name=DeploymentFilterName(any_=sorted(host_names(host))))
    with get_client(sync_client=True) as client:
        for found in client.read_deployments(deployment_filter=wanted):
            client.delete_deployment(found.id)


def main() -> None:
    """Make the pool and the deployments; ends the process with the deploy command's exit code."""
    from prefect.cli import app

    place = Place(host=sys.argv[1], pool=os.environ["IMS_HOST"], scope=Scope(sys.argv[2]))
    _make_work_pool(place.pool)
    with tempfile.TemporaryDirectory(prefix="ims-deploy-") as folder:
        file = Path(folder) / PREFECT_FILE.name
        _write_operated_file(file, place)
        sys.argv[1:] = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        app()


if __name__ == "__main__":
    main()
