"""Applies prefect.yaml to the Prefect server: this host's work pool, and one deployment for every stanza.

Run as `python -m deployments.registering` with PREFECT_HOME, IMS_HOST and IMS_RELEASE set. Each deployment's version is the
digest of prefect.yaml and the code behind it, so `is_registered` needs one question to know that nothing is to be done.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from ruamel.yaml import YAML

from deployments.embedded.probes import prefect_call

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
    stanzas = YAML(typ="safe").load(PREFECT_FILE)["deployments"]
    return {stanza["name"] for stanza in stanzas}


def is_registered(api_url: str, *, login: str, pool: str) -> bool:
    """Whether the server holds every deployment of this very code for this work pool."""
    body: dict[str, object] = {"deployments": {"name": {"any_": sorted(deployment_names())}}}
    found = prefect_call(api_url, "/deployments/filter", login=login, body=body) or []
    wanted = release()
    current = {item["name"] for item in found if item["version"] == wanted and item["work_pool_name"] == pool}
    return current == deployment_names()


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
    sys.argv[1:] = ["--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_FILE)]
    app()


if __name__ == "__main__":
    main()
