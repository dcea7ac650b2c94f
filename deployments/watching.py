"""The watcher of a host: says every few seconds that the host is there, starts a reconciliation when a run has died, tells the
Prefect server of runs that have stopped, and starts worker and NBD server again when they have.

A killed worker or run tells nobody, and a host that was cut off cannot. So every host's watcher looks for operations that
nobody runs any more: its own host's as soon as their process is gone, another's once their lease has ended and that host had
its chance. Run as `python -m deployments.watching`; it needs the catalog alone, and the Prefect server only for what it starts.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from deployments.embedded import supervisor
from deployments.embedded.probes import prefect_call
from deployments.embedded.site import look_up
from deployments.registering import deployment_names
from deployments.stopped_runs import StoppedRuns
from models.operation_finding import running_operations
from models.operations import is_held
from models.tables import Operation, utc_now
from tasks.engine.errors import ImsError, OperationBusy
from tasks.engine.settings import load_settings
from tasks.holders import is_alive
from tasks.hosts import report_here
from tasks.resources import catalog

REPORT_SECONDS = 10.0
THEIR_CHANCE = timedelta(seconds=15)
AGAIN_SECONDS = 60.0
"""How long the same abandoned operations are left alone after a reconciliation that could not close them."""
FAILED_SECONDS = 15.0
RECONCILE_SECONDS = 600.0

log = logging.getLogger("ims.watcher")


class Watcher:
    """What it has told and tried already."""

    def __init__(self) -> None:
        self._told = ""
        self._tried: set[str] = set()
        self._fallen: set[str] = set()
        self._not_before = 0.0
        self._stopped = StoppedRuns(_ask_prefect, flows=deployment_names())

    def run(self) -> None:
        """Look for ever; a failure is told once and tried again."""
        while True:
            try:
                report_here()
                self._look()
                self._revive()
                self._mark_stopped()
                words = ""
            except ImsError as error:
                words = str(error)
            if words and words != self._told:
                log.warning(words)
            self._told = words
            time.sleep(REPORT_SECONDS)

    def _look(self) -> None:
        with catalog() as session:
            dead = {each.id for each in running_operations(session) if is_ours_to_close(each)}
        if dead and (dead - self._tried or time.monotonic() >= self._not_before):
            log.warning("nobody runs %s any more; reconciling", ", ".join(sorted(dead)))
            done = _reconcile()
            self._tried = dead if done else set()
            self._not_before = time.monotonic() + (AGAIN_SECONDS if done else FAILED_SECONDS)

    def _mark_stopped(self) -> None:
        if crashed := self._stopped.look():
            log.warning("runs without a sign of life are marked as crashed: %s", ", ".join(crashed))

    def _revive(self) -> None:
        """What has been dead for two looks: whoever killed it to start it anew has done so by then."""
        settings = load_settings()
        before, self._fallen = self._fallen, supervisor.fallen(settings)
        if before & self._fallen:
            with suppress(OperationBusy):  # `ims up` or `ims down` sees to it
                log.warning("started again: %s", ", ".join(supervisor.revive(settings)))
            self._fallen = set()


def _ask_prefect(path: str, body: Mapping[str, object] | None) -> Any | None:
    site = look_up(load_settings())
    return prefect_call(site.settings.prefect_api_url, path, login=site.login, body=body)


def is_ours_to_close(operation: Operation) -> bool:
    """Whether nobody runs it, and this host is the one to close it, or the other one did not."""
    if is_held(operation, is_alive=is_alive):
        return False
    return operation.lease_host == load_settings().host or operation.lease_expires_at + THEIR_CHANCE < utc_now()


def _reconcile() -> bool:
    """In a process of its own, recorded by the Prefect server, whether or not a worker is left here."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "reconcile", "--json"],
            stdin=subprocess.DEVNULL,
            timeout=RECONCILE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    """Watch until a signal ends it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    Watcher().run()


if __name__ == "__main__":
    main()
