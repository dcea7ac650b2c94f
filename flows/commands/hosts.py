"""`ims host`: operators make machines known, look at them, drain and remove them. The work pool and the deployments are
`deployments.registering`, found by name because nothing here imports upwards.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from sqlmodel import Session

from models import hosts
from models.host_tables import Host
from models.trail import Actor
from tasks.engine.settings import load_settings
from tasks.hosts import host_view, host_views
from tasks.resources import catalog, prove_operator
from tasks.views import ecs_view


def add(given: Namespace) -> dict[str, Any]:
    """Make a host known: its row, then its work pool and deployments. The same again completes what was broken off."""
    operator = prove_operator(load_settings().account, step="add hosts")
    new = hosts.NewHost(name=given.name, uri=given.uri, pool=given.pool or given.name)
    with catalog(write=True) as session:
        host = hosts.ensure_host(session, new=new, by=Actor(operator))
        view = host_view(session, host)
    _registering("register_host", view.name, view.pool)
    return view.model_dump(mode="json")


def list_all(_: Namespace) -> dict[str, Any]:
    """Every host."""
    prove_operator(load_settings().account, step="list hosts")
    with catalog() as session:
        return {"hosts": [view.model_dump(mode="json") for view in host_views(session)]}


def show(given: Namespace) -> dict[str, Any]:
    """One host, and what is on it."""
    prove_operator(load_settings().account, step="look at hosts")
    with catalog() as session:
        return _shown(session, hosts.get_host(session, name=given.name))


def drain(given: Namespace) -> dict[str, Any]:
    """Launch nothing there any more."""
    return _change(given, hosts.drain_host, step="drain hosts")


def resume(given: Namespace) -> dict[str, Any]:
    """Launch there again."""
    return _change(given, hosts.resume_host, step="resume hosts")


def remove(given: Namespace) -> dict[str, Any]:
    """Forget a host: its row, that of its ECSs where it is lost, then its deployments."""
    operator = prove_operator(load_settings().account, step="remove hosts")
    with catalog(write=True) as session:
        gone = hosts.remove_host(session, name=given.name, lost=given.lost, by=Actor(operator))
        lost = [ecs_view(ecs).model_dump(mode="json") for ecs in gone]
    _registering("unregister_host", given.name)
    return {"name": given.name, "state": "removed", "ecs": lost}


def _change(given: Namespace, change: Callable[..., Host], *, step: str) -> dict[str, Any]:
    operator = prove_operator(load_settings().account, step=step)
    with catalog(write=True) as session:
        return _shown(session, change(session, name=given.name, by=Actor(operator)))


def _shown(session: Session, host: Host) -> dict[str, Any]:
    left = [ecs_view(ecs).model_dump(mode="json") for ecs in hosts.living_there(session, name=host.name)]
    return {"host": host_view(session, host).model_dump(mode="json"), "ecs": left}


def _registering(function: str, *arguments: str) -> None:
    getattr(importlib.import_module("deployments.embedded.provisioning"), function)(load_settings(), *arguments)
