"""`ims store`: what operators ask of and do to the object store."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from flows.calling import run_flow
from tasks.engine.settings import load_settings
from tasks.resources import catalog, prove_operator


def stats(_: Namespace) -> dict[str, Any]:
    """Bytes by what they are: as guests see them, stored once, and what nothing needs."""
    from models.figures import sum_bytes
    from tasks.surveying import survey

    prove_operator(load_settings().account, step="see the store's figures")
    with catalog() as session:
        logical = sum_bytes(session).data
    seen = survey()
    factor = round(logical / seen["unique_bytes"], 2) if seen["unique_bytes"] else None
    return {"logical_bytes": logical, **seen, "factor": factor}


def verify(given: Namespace) -> dict[str, Any]:
    """Run the verification; 2 where something is damaged."""
    answer = run_flow("verify_store", {"account": load_settings().account, "everything": given.all}, detach=given.detach)
    return answer | ({"exit_code": 2} if answer.get("faults") else {})


def collect(given: Namespace) -> dict[str, Any]:
    """Run the garbage collection."""
    parameters = {
        "account": load_settings().account,
        "apply": given.apply,
        "keep_hours": given.keep_hours,
        "adopt": given.adopt,
    }
    return run_flow("collect_garbage", parameters, detach=given.detach)
