"""How the command runs a flow: in this process, recorded by the Prefect server, or handed to a worker. Not a flow itself."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import urllib.error
import urllib.request
from typing import Any

from pydantic import BaseModel

from tasks.engine.errors import PrefectUnavailable, RequestRefused
from tasks.engine.logs import to_people
from tasks.engine.settings import load_settings
from tasks.resources import prove

HEALTH_SECONDS = 3.0


def run_flow(verb: str, parameters: dict[str, Any], *, detach: bool = False) -> dict[str, Any]:
    """Run `flows.<verb>.<verb>` and give its result as plain values; detached, the id and address of the run."""
    _require_server()
    _quiet_prefect()
    flow = getattr(importlib.import_module(f"flows.{verb}"), verb)
    _check(flow, parameters)
    if detach:
        prove(parameters["account"])  # the worker acts with its operator's key
        return _hand_over(flow.name, parameters)
    result = flow(**parameters)
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else dict(result or {})


def _check(flow: Any, parameters: dict[str, Any]) -> None:
    """Refuse a bad parameter by its own name, which Prefect's error does not tell."""
    from pydantic import ValidationError, create_model

    shape: dict[str, Any] = {
        name: (given.annotation, ... if given.default is given.empty else given.default)
        for name, given in inspect.signature(flow.fn, eval_str=True).parameters.items()
    }
    try:
        create_model("Parameters", **shape).model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = [part for part in first["loc"] if isinstance(part, str)][-1]
        raise RequestRefused(field, f"{field}: {first['msg']}", remedy="See `ims --help` for what it may be.") from error


def _hand_over(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    values = json.loads(json.dumps(parameters, default=_plain))
    try:
        run: Any = run_deployment(name=f"{name}/{name}", parameters=values, timeout=0, as_subflow=False)
    except ObjectNotFound as error:
        raise PrefectUnavailable(f"no deployment {name} is registered", remedy="Run `ims up`.") from error
    return {"flow_run_id": str(run.id), "state": "scheduled", "url": load_settings().run_url(run.id)}


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _require_server() -> None:
    """One clear line instead of a long trace when the server is not there."""
    settings = load_settings()
    url = os.environ.get("PREFECT_API_URL") or settings.prefect_api_url
    try:
        context = settings.tls() if url.startswith("https:") else None
        with urllib.request.urlopen(f"{url}/health", timeout=HEALTH_SECONDS, context=context):  # noqa: S310  # the operator's own address
            return
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise PrefectUnavailable(f"no Prefect server answers at {url}: {error}", remedy="Run `ims up`.") from error


def server_away(error: BaseException) -> PrefectUnavailable | None:
    """What it means where Prefect's client lets out that its server is away; None for any other error.

    The client says so in errors of many kinds, each with its connection's below it. No connection of our own ends like that.
    """
    import httpx

    cause: BaseException | None = error
    while cause is not None:
        refused = isinstance(cause, httpx.HTTPStatusError) and cause.response.is_server_error
        if refused or isinstance(cause, httpx.TransportError):
            why = (str(cause) or type(cause).__name__).partition("\n")[0]
            url = load_settings().prefect_api_url
            return PrefectUnavailable(f"the Prefect server at {url} went away: {why}", remedy="The same command goes on.")
        cause = cause.__cause__
    return None


def _quiet_prefect() -> None:
    """People see our own progress lines; everything else is in the Prefect UI. Must run before Prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "ims")
    from prefect.logging.configuration import setup_logging
    from prefect.logging.handlers import APILogHandler

    setup_logging()
    told = logging.getLogger("ims")
    told.setLevel(logging.INFO)
    kept = [handler for handler in told.handlers if not isinstance(handler, logging.StreamHandler)]  # the run's log, the file
    told.handlers[:] = [*kept, to_people(load_settings())]
    for handler in kept:
        if isinstance(handler, APILogHandler) and _in_a_run not in handler.filters:
            handler.addFilter(_in_a_run)


def _in_a_run(_record: logging.LogRecord) -> bool:
    """Whether there is a run whose log can have the line; Prefect warns of each that has none."""
    from prefect.context import FlowRunContext, TaskRunContext

    return (FlowRunContext.get() or TaskRunContext.get()) is not None
