"""The host agent as a service; what it does is in `tasks.engine.host`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from deployments.embedded.services import Service
from deployments.embedded.site import Site

GREETING = b"NBDMAGICIHAVEOPT"
ABORT = (0).to_bytes(4, "big") + b"IHAVEOPT" + (2).to_bytes(4, "big") + (0).to_bytes(4, "big")
"""Client flags, then NBD_OPT_ABORT without data: the polite way to leave, so that the server logs no error."""
PROBE_SECONDS = 3.0


def service(site: Site) -> Service:
    path = site.settings.exports_socket
    return Service(
        name="agent",
        command=(sys.executable, "-m", "tasks.engine.host"),
        address=str(path),
        ready=lambda _since: serves_nbd(path),
        environment=site.environment,
        umask=0o022,
        start_seconds=60,
    )


def serves_nbd(path: Path) -> bool:
    """Whether an NBD server greets on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
            greeting = probe.recv(len(GREETING) + 2, socket.MSG_WAITALL)
            probe.sendall(ABORT)
            probe.recv(64)
        except OSError:
            return False
    return greeting.startswith(GREETING)
