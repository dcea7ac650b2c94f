"""`ims inbox`: the list is read from bucket and catalog; imports are started by the store's notifications and the sweep."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from tasks.engine.settings import load_settings


def list_all(_: Namespace) -> dict[str, Any]:
    """The account's objects and how far each is."""
    from tasks.inboxes import find_all, views
    from tasks.resources import inbox_bucket, prove

    account = prove(load_settings().account)
    good, bad = find_all(inbox_bucket(), account)
    return {"inbox": [view.model_dump(mode="json") for view in views(account, good) + bad]}


def serve(_: Namespace) -> dict[str, Any]:
    """Receive notifications until the process is ended."""
    from tasks.engine.inbox.receiver import serve as serve_notifications

    serve_notifications()
    return {"inbox": []}
