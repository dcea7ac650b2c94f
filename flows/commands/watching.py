"""`ims metrics` and `ims report`: figures for Prometheus, printed or served, and for people. They read the catalog alone.

The nightly report, which also lists the store, is the flow `report-capacity`.
"""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from models.accounts import require_operator
from tasks.engine.errors import RequestRefused
from tasks.engine.scraping import Kept, ScrapeServer, token_in
from tasks.engine.settings import load_settings
from tasks.metrics import exposition
from tasks.resources import catalog, require_account

DAYS = 366


def show(given: Namespace) -> dict[str, Any]:
    """The text; with `--serve` over HTTP until a signal."""
    produce = partial(exposition, given.part)
    text = produce()
    return {"metrics": text.decode()} if given.serve is None else _serve(given.serve, produce)


def report(given: Namespace) -> dict[str, Any]:
    """What the catalog says, without asking the store."""
    from tasks.capacity_report import capacity_markdown, capacity_view

    settings = load_settings()
    if not 1 <= given.days <= DAYS:
        raise RequestRefused("days", f"--days is 1 to {DAYS}")
    with catalog() as session:
        require_operator(session, name=require_account(session, account=settings.account), step="report on capacity")
        view = capacity_view(session, days=given.days)
    return view.model_dump(mode="json") | {"report": capacity_markdown(view, run_url=settings.run_url)}


def _serve(port: int, produce: Callable[[], bytes]) -> dict[str, Any]:
    home = load_settings().home
    server = ScrapeServer(Kept(produce), port=port, token=token_in(home))
    signal.signal(signal.SIGTERM, _stop)
    print(f"ims: serving {server.url}; the bearer token is in {home / 'metrics.token'}", file=sys.stderr, flush=True)
    with server:
        try:
            server.serve_forever()
        except _Stopped:
            return {"url": server.url, "state": "stopped"}
    raise AssertionError("it serves until a signal")


class _Stopped(Exception):
    """A signal asked it to end."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped
