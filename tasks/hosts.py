"""Hosts as operators see them, and this host's own report. No Prefect here; work for another host goes by `tasks.routing`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session

from models.host_tables import Host
from models.hosts import Report, is_silent, list_hosts, living_there, record_report
from models.placement import claims_of, room_of
from tasks.engine.condition import look
from tasks.engine.errors import NotFound
from tasks.engine.settings import load_settings
from tasks.resources import catalog


class HostView(BaseModel):
    """One host; memory in MiB. `silent`: it has not reported for a minute. `cached` counts the disks that it has at hand."""

    name: str
    uri: str
    pool: str
    state: str
    silent: bool
    ecs: int
    memory_mib: int
    claimed_mib: int
    room_mib: int
    accelerator: str | None
    cached: int
    cache_bytes: int
    seen_at: datetime | None


def report_here() -> None:
    """Note in the catalog that this host is there, and its condition. Raises NotFound for one that is not in the catalog."""
    settings = load_settings()
    report = Report(**asdict(look(settings)))
    with catalog(write=True) as session:
        record_report(session, name=settings.host, report=report)


def report_if_known() -> None:
    """The same on a machine that may be no host at all."""
    with suppress(NotFound):
        report_here()


def host_view(session: Session, host: Host) -> HostView:
    """The host with what is claimed and what is left of it."""
    claims = claims_of(session, names=[host.name])[host.name]
    values = {name: getattr(host, name) for name in HostView.model_fields if hasattr(host, name)}
    values |= {
        "state": str(host.state),
        "silent": is_silent(host),
        "ecs": len(living_there(session, name=host.name)),
        "claimed_mib": claims.all_mib,
        "room_mib": max(0, room_of(host, claims)),
        "cached": len(host.cached),
    }
    return HostView.model_validate(values)


def host_views(session: Session) -> list[HostView]:
    """Every host, by name."""
    return [host_view(session, host) for host in list_hosts(session)]
