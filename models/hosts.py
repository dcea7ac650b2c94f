"""Hosts: how one is added, reports, is drained and removed. Which of them takes a new ECS is `models.placement`.

A host says every few seconds that it is there. One that has been silent for SILENT_SECONDS gets no work until it reports again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from models.ecs import delete_ecs
from models.exceptions import HostRefused, NameTaken, NotVisible
from models.host_tables import Host
from models.tables import Ecs, utc_now
from models.trail import Actor, Change, write_audit
from models.validation import check_host_name, check_text
from models.vocabulary import EcsState, HostState

SILENT_SECONDS = 60
MAX_CACHED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHost:
    """`uri` is how others reach its libvirt, `pool` the Prefect work pool whose worker runs there."""

    name: str
    uri: str
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a host says of itself; memory in MiB, `cached` the digests of disks that it has at hand, of which few are kept."""

    memory_mib: int
    available_mib: int
    accelerator: str | None = None
    cached: Sequence[str] = ()
    cache_bytes: int = 0


def add_host(session: Session, *, new: NewHost, by: Actor) -> Host:
    """An active host that has not reported yet. Raises NameInvalid, FieldInvalid, NameTaken."""
    host = Host(
        name=check_host_name(new.name),
        uri=check_text(new.uri, field="uri", limit=255),
        pool=check_text(new.pool, field="pool", limit=255),
    )
    try:
        with session.begin_nested():
            session.add(host)
    except IntegrityError as error:
        raise NameTaken("host", new.name) from error
    _note(session, host, by=by, new="added")
    return host


def ensure_host(session: Session, *, new: NewHost, by: Actor) -> Host:
    """The host of that name, added where there is none; its pool is the new one, its address one that others can use."""
    host = session.get(Host, new.name)
    if host is None:
        return add_host(session, new=new, by=by)
    uri = new.uri if _holds_elsewhere(new.uri) else host.uri
    if (host.uri, host.pool) != (uri, new.pool):
        host.uri = check_text(uri, field="uri", limit=255)
        host.pool = check_text(new.pool, field="pool", limit=255)
        session.add(host)
        session.flush()
        _note(session, host, by=by, new="changed")
    return host


def get_host(session: Session, *, name: str) -> Host:
    host = session.get(Host, name)
    if host is None:
        raise NotVisible("host", name)
    return host


def list_hosts(session: Session) -> Sequence[Host]:
    """Every host by name; only an operator's command may show them."""
    return session.exec(select(Host).order_by(col(Host.name))).all()


def record_report(session: Session, *, name: str, report: Report) -> Host:
    """Note what a host says of itself, and that it is there. Raises NotVisible for one that was never added, or was removed."""
    host = _held(session, name=name)
    host.memory_mib, host.available_mib = report.memory_mib, report.available_mib
    host.accelerator = report.accelerator
    host.cached, host.cache_bytes = list(report.cached)[:MAX_CACHED], report.cache_bytes
    host.seen_at = utc_now()
    session.add(host)
    session.flush()
    return host


def drain_host(session: Session, *, name: str, by: Actor) -> Host:
    """No launch goes there any more; what is there stays and can be used."""
    return _move(session, name=name, new=HostState.DRAINING, by=by)


def resume_host(session: Session, *, name: str, by: Actor) -> Host:
    """Launches may go there again."""
    return _move(session, name=name, new=HostState.ACTIVE, by=by)


def remove_host(session: Session, *, name: str, lost: bool = False, by: Actor) -> Sequence[Ecs]:
    """Forget a host on which no ECS is left; or, `lost`, a silent one with its ECSs, which become tombstones. Gives these.

    An ECS that is being built or changed is waited for: its operation is closed once its lease ends. Raises NotVisible,
    HostRefused.
    """
    host = _held(session, name=name)
    left = living_there(session, name=name)
    if left and not lost:
        raise HostRefused(name, "in_use", f"{len(left)} ECSs are on it")
    if lost and not is_silent(host):
        raise HostRefused(name, "reporting", "it reports, so it is not lost")
    if held := [ecs.id for ecs in left if ecs.locked_by or ecs.state is EcsState.BUILDING]:
        raise HostRefused(name, "busy", f"what was under way there is not closed yet: {', '.join(held)}")
    for ecs in left:
        delete_ecs(session, ecs=ecs, by=by)
    session.delete(host)
    _note(session, host, by=by, old=host.state.value, new="lost" if lost else "removed")
    session.flush()
    return left


def living_there(session: Session, *, name: str) -> Sequence[Ecs]:
    """Every ECS of the host that is not deleted, oldest first, whoever owns it: for operators alone."""
    query = select(Ecs).where(Ecs.host == name, Ecs.state != EcsState.DELETED)
    return session.exec(query.order_by(col(Ecs.created_at), col(Ecs.id))).all()


def reachable_uri(session: Session, *, name: str) -> str | None:
    """The address of a host's libvirt for others; None where it holds on the host itself alone."""
    host = session.get(Host, name)
    return host.uri if host is not None and _holds_elsewhere(host.uri) else None


def is_silent(host: Host) -> bool:
    """Whether it has not reported for so long that it counts as gone."""
    return host.seen_at is None or utc_now() - host.seen_at > timedelta(seconds=SILENT_SECONDS)


def _move(session: Session, *, name: str, new: HostState, by: Actor) -> Host:
    host = _held(session, name=name)
    if host.state is not new:
        old, host.state, host.updated_at = host.state, new, utc_now()
        session.add(host)
        _note(session, host, by=by, old=old.value, new=new.value)
        session.flush()
    return host


def _held(session: Session, *, name: str) -> Host:
    """The host, locked until the caller's transaction ends. Nobody who holds another row waits for a host's."""
    query = select(Host).where(Host.name == name).with_for_update()
    host = session.exec(query.execution_options(populate_existing=True)).first()
    if host is None:
        raise NotVisible("host", name)
    return host


def _holds_elsewhere(uri: str) -> bool:
    """Whether an address names a way to its libvirt, as qemu+ssh://... does."""
    return "+" in uri.partition(":")[0]


def _note(session: Session, host: Host, *, by: Actor, new: str, old: str | None = None) -> None:
    detail = {"uri": host.uri, "pool": host.pool}
    write_audit(session, by=by, change=Change("host", host.name, by.account, old=old, new=new, detail=detail))
