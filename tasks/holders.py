"""Who holds an operation, as the catalog names it: a process of a host. No Prefect here, for the host's watcher asks too."""

from __future__ import annotations

from models.operations import Owner
from tasks.engine import owner
from tasks.engine.settings import load_settings


def this_process() -> Owner:
    """How the catalog names this process."""
    me = owner.this_process()
    return Owner(host=load_settings().host, pid=me.pid, started=me.started)


def is_alive(holder: Owner) -> bool:
    """Whether another process still runs; one on another host counts as alive until its lease ends."""
    return holder.host != load_settings().host or owner.Process(holder.pid, holder.started).runs
