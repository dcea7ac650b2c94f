"""Metrics for Prometheus as a service, where IMS_METRICS_PORT names a port; what it serves is `tasks.metrics`."""

from __future__ import annotations

import sys

from deployments.embedded import probes
from deployments.embedded.services import Service
from deployments.embedded.site import Site
from tasks.engine.scraping import LOOPBACK, PATH

NAME = "metrics"


def service(site: Site, port: int) -> Service:
    """`ims metrics --serve`; it is ready when it asks who has no token for one."""
    url = f"http://{LOOPBACK}:{port}{PATH}"
    return Service(
        name=NAME,
        command=(sys.executable, "-m", "flows.cli", "metrics", "--serve", str(port)),
        address=url,
        ready=lambda _since: probes.http_status(url) == 401,
        environment=site.environment,
    )
