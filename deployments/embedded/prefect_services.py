"""The embedded Prefect server and this host's worker. Flows and deployments are registered by `deployments.registering`.

Whoever holds the Prefect API can run code on this host, so it listens on loopback and wants the login that
IMS_HOME/prefect.login holds.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

from deployments.embedded import ports, probes
from deployments.embedded.services import Service
from deployments.embedded.site import HEARTBEAT_SECONDS, Site

WORKER_NAME = "embedded"
TAKEN_AND_LEFT = "The worker that had taken it is gone."


def server(site: Site) -> Service:
    api_url, login = site.settings.prefect_api_url, site.login
    return Service(
        name="prefect",
        command=(sys.executable, "-m", "prefect", "server", "start"),
        address=site.ui_url,
        ready=lambda _since: probes.prefect_call(api_url, "/admin/version", login=login) is not None,
        environment=_server_environment(site),
        secrets={"PREFECT_SERVER_API_AUTH_STRING": login},
        start_seconds=240,  # the first start migrates its database
        stop_seconds=15,
    )


def _server_environment(site: Site) -> dict[str, str]:
    port = urlsplit(site.settings.prefect_api_url).port
    return {
        "PREFECT_HOME": str(site.prefect_home),
        "PREFECT_PROFILE": "ims",
        "PREFECT_SERVER_API_HOST": ports.LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": site.settings.prefect_api_url,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(site.prefect_home / "ui"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{ports.LOOPBACK}:{port},http://localhost:{port}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Runs wait in their queues; to mark hundreds as late after 15 s, all at once, is more than SQLite bears.
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "3600",
        "DO_NOT_TRACK": "1",
    }


def worker(site: Site) -> Service:
    """The process worker of this host's pool; a run that it started ends with it."""
    pool = site.settings.work_pool
    return Service(
        name="worker",
        command=(
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            pool,
            "--type",
            "process",
            "--name",
            WORKER_NAME,
        ),
        address=f"work pool {pool}",
        ready=lambda since: _worker_online(site, since),
        environment=_worker_environment(site),
        umask=0o022,  # QEMU's user must reach the ECS folders that a run makes
        start_seconds=120,
        stop_seconds=15,
    )


def requeue(site: Site) -> None:
    """Queue again what a worker that is gone had taken and not yet begun: no process runs it, and no heartbeat ever stops.

    Only while this pool's worker does not run. A server that does not answer is asked again at the next start.
    """
    api_url, login = site.settings.prefect_api_url, site.login
    chosen = {"work_pools": {"name": {"any_": [site.settings.work_pool]}}}
    taken = {"flow_runs": {"state": {"type": {"any_": ["PENDING"]}}}}
    for run in probes.prefect_call(api_url, "/flow_runs/filter", login=login, body={**chosen, **taken}) or []:
        details = {"scheduled_time": datetime.now(UTC).isoformat()}
        state = {"type": "SCHEDULED", "name": "Scheduled", "message": TAKEN_AND_LEFT, "state_details": details}
        probes.prefect_call(api_url, f"/flow_runs/{run['id']}/set_state", login=login, body={"state": state})


def _worker_environment(site: Site) -> dict[str, str]:
    return {
        **site.environment,
        "DO_NOT_TRACK": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ims",  # the steps' own lines belong to the run
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # and lines of no run, the worker's, to its log alone
        # Prefect's runner keeps its files in one folder of a fixed name there, which another user may already own under /tmp.
        "TMPDIR": str(site.home / "tmp"),
    }


def _worker_online(site: Site, since: float) -> bool:
    path = f"/work_pools/{site.settings.work_pool}/workers/filter"
    workers = probes.prefect_call(site.settings.prefect_api_url, path, login=site.login, body={}) or []
    return any(
        worker["name"] == WORKER_NAME and worker["status"] == "ONLINE" and _seconds(worker["last_heartbeat_time"]) >= since
        for worker in workers
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
