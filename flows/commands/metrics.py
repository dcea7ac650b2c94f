"""`ims metrics`: figures for Prometheus, printed or served. What they are is `tasks.metrics`."""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from tasks.engine.scraping import Kept, ScrapeServer, token_in
from tasks.engine.settings import load_settings
from tasks.metrics import exposition


def show(given: Namespace) -> dict[str, Any]:
    """The text; with `--serve` over HTTP until a signal."""
    produce = partial(exposition, given.part)
    text = produce()
    return {"metrics": text.decode()} if given.serve is None else _serve(given.serve, produce)


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
