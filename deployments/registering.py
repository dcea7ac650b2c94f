"""Applies prefect.yaml to the Prefect server: this host's work pool, and one deployment for every stanza.

What an operator set on a deployment stays. Prefect's own deploy would reset its parameters, its schedules and its pause to what
the file says, and would drop a schedule that somebody added in the UI; so each stanza is first brought to what the server has.
The file decides for deployments and schedules that are new; a schedule that is not wanted is switched off, not deleted.

Run as `python -m deployments.registering` with PREFECT_HOME, IMS_HOST and IMS_RELEASE set. Each deployment's version is the
digest of prefect.yaml and the code behind it, so `is_registered` needs one question to know that nothing is to be done.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from deployments.embedded.probes import prefect_call

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

ROOT = Path(__file__).parents[1]
PREFECT_FILE = ROOT / "prefect.yaml"
CODE = ("flows", "tasks", "models")


def release() -> str:
    """Digest of what decides the deployments and their forms."""
    files = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    digest = hashlib.sha256(PREFECT_FILE.read_bytes())
    for path in files:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def deployment_names() -> set[str]:
    return {stanza["name"] for stanza in _load_file()["deployments"]}


def is_registered(api_url: str, *, login: str, pool: str) -> bool:
    """Whether the server holds every deployment of this very code for this work pool."""
    body: dict[str, object] = {"deployments": {"name": {"any_": sorted(deployment_names())}}}
    found = prefect_call(api_url, "/deployments/filter", login=login, body=body) or []
    wanted = release()
    current = {item["name"] for item in found if item["version"] == wanted and item["work_pool_name"] == pool}
    return current == deployment_names()


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


def _present() -> dict[str, DeploymentResponse]:
    """The server's deployments of the file, by name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    wanted = DeploymentFilter(name=DeploymentFilterName(any_=sorted(deployment_names())))
    with get_client(sync_client=True) as client:
        return {found.name: found for found in client.read_deployments(deployment_filter=wanted)}


def _write_operated_file(path: Path) -> None:
    present = _present()
    content = _load_file()
    content["deployments"] = [as_operated(stanza, present.get(stanza["name"])) for stanza in content["deployments"]]
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


def main() -> None:
    """Make the pool and deploy; ends the process with the deploy command's exit code."""
    from prefect.cli import app

    _make_work_pool(os.environ["IMS_HOST"])
    with tempfile.TemporaryDirectory(prefix="ims-deploy-") as folder:
        file = Path(folder) / PREFECT_FILE.name
        _write_operated_file(file)
        sys.argv[1:] = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        app()


if __name__ == "__main__":
    main()
