"""`ims series`: the list is read from the catalog, a run is a flow."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pydantic import TypeAdapter

from models.series import SeriesSum, list_series
from tasks.engine.settings import load_settings
from tasks.resources import catalog, require_account


def run(given: Namespace) -> dict[str, Any]:
    """Run the series flow."""
    from flows.calling import run_flow

    parameters = {
        "ecs": given.ecs,
        "series": given.series,
        "keep": given.keep,
        "apply": given.apply,
        "account": load_settings().account,
        "generalize": given.generalize,
        "verify": given.verify,
    }
    return run_flow("capture_series", parameters, detach=given.detach)


def list_all(_: Namespace) -> dict[str, Any]:
    """The account's series, by name and ECS."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        rows = list_series(session, account=account)
    return {"series": TypeAdapter(list[SeriesSum]).dump_python(rows, mode="json")}
