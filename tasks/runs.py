"""Runs as the Prefect server knows them, ended from outside: those whose process is gone, or that nobody waits for any more."""

from __future__ import annotations

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from tasks.progress import log


def end_run(flow_run_id: str | None, state: State[None]) -> None:
    """Set a run that is not over to this state. One that the server does not know, or no server, does not matter."""
    if flow_run_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            present = client.read_flow_run(UUID(flow_run_id)).state
            if present is None or not present.is_final():
                client.set_flow_run_state(UUID(flow_run_id), state, force=True)
    except (ObjectNotFound, PrefectHTTPStatusError, httpx.HTTPError) as error:
        log.info("Run %s was not ended: %s", flow_run_id, error)
