"""The host's watcher as a service; what it does is in `deployments.watching`."""

from __future__ import annotations

import sys

from deployments.embedded.services import Service
from deployments.embedded.site import Site


def service(site: Site) -> Service:
    return Service(
        name="watcher",
        command=(sys.executable, "-m", "deployments.watching"),
        address=f"host {site.settings.host}",
        ready=lambda _since: True,  # it serves nobody; `ims host list` tells when it was last heard of
        environment=site.environment,
        umask=0o022,  # a reconciliation that it starts may make folders that QEMU's user must reach
        start_seconds=30,
    )
