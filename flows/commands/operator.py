"""`ims reconcile`: what an operator runs on a host, on top of the schedule. Services are `flows.commands.services`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from flows.calling import run_flow
from tasks.engine.settings import load_settings


def reconcile(given: Namespace) -> dict[str, Any]:
    """Run the reconcile flow."""
    parameters = {
        "account": load_settings().account,
        "dry_run": given.dry_run,
        "remove_strangers": given.remove_strangers,
    }
    return run_flow("reconcile", parameters, detach=given.detach)
