"""Which host takes a new ECS. The hosts themselves are `models.hosts`.

An ECS claims its flavor's memory on its host from the transaction that makes its row until it is deleted or in error; a
stopped one keeps its claim, so that it can always be started. `place` locks the hosts it looks at, so two launches never both
get the last memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func
from sqlmodel import Session, col, select

from models.exceptions import HostRefused, NotVisible
from models.host_tables import Host
from models.hosts import is_silent
from models.tables import Ecs, Flavor
from models.vocabulary import EcsState, HostState

CLAIMING = (EcsState.BUILDING, EcsState.ACTIVE, EcsState.STOPPED)
RUNNING = (EcsState.BUILDING, EcsState.ACTIVE)
_REASONS = ("full", "draining", "silent")
"""What is told where no host takes the ECS: the reason that is nearest to success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What an ECS asks of a host: MiB, and the digests of disks that it will read."""

    memory_mib: int
    digests: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Claims:
    """MiB that the ECSs of a host have claimed; `fresh_mib` of guests that its last report cannot have counted yet."""

    all_mib: int = 0
    fresh_mib: int = 0


def place(session: Session, *, need: Need, wanted: str | None = None, but: Collection[str] = (), hold: bool = True) -> Host:
    """The host for an ECS: `wanted` alone, or any but `but`; the one that has most of the disks at hand, then most room.

    With `hold` the hosts are locked until the transaction ends, in which the caller makes the ECS's row. An ECS row is locked
    after its host, never before. Raises NotVisible, HostRefused `full`, `draining`, `silent` or `none`.
    """
    hosts = [host for host in _hosts(session, wanted=wanted, hold=hold) if host.name not in but]
    if wanted is not None and not hosts:
        raise NotVisible("host", wanted)
    claims = claims_of(session, names=[host.name for host in hosts])
    reasons = {host.name: _why_not(host, claims[host.name], need) for host in hosts}
    fitting = [host for host in hosts if reasons[host.name] is None]
    if not fitting:
        raise _refusal(reasons, claims, hosts, need, wanted=wanted)
    # Sorted by name before: of equals the first one, always the same.
    return max(fitting, key=lambda host: (_at_hand(host, need), room_of(host, claims[host.name])))


def claims_of(session: Session, *, names: Collection[str]) -> Mapping[str, Claims]:
    """What is claimed on each of these hosts."""
    fresh = case((and_(col(Ecs.state).in_(RUNNING), col(Ecs.created_at) > col(Host.seen_at)), Flavor.memory_mib), else_=0)
    query = (
        select(Ecs.host, func.sum(Flavor.memory_mib), func.sum(fresh))
        .join(Flavor, col(Flavor.name) == col(Ecs.flavor))
        .join(Host, col(Host.name) == col(Ecs.host))
        .where(col(Ecs.host).in_(names), col(Ecs.state).in_(CLAIMING))
        .group_by(col(Ecs.host))
    )
    found = {name: Claims(int(claimed or 0), int(new or 0)) for name, claimed, new in session.exec(query).all()}
    return {name: found.get(name, Claims()) for name in names}


def room_of(host: Host, claims: Claims) -> int:
    """MiB that a further ECS could have: of what guests may have, and of what was free when the host reported."""
    return min(host.memory_mib - claims.all_mib, host.available_mib - claims.fresh_mib)


def _hosts(session: Session, *, wanted: str | None, hold: bool) -> Sequence[Host]:
    query = select(Host).order_by(col(Host.name))  # always in one order: no two launches wait for each other
    if wanted is not None:
        query = query.where(Host.name == wanted)
    if hold:
        query = query.with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).all()


def _why_not(host: Host, claims: Claims, need: Need) -> str | None:
    if host.state is HostState.DRAINING:
        return "draining"
    if is_silent(host):
        return "silent"
    return "full" if room_of(host, claims) < need.memory_mib else None


def _at_hand(host: Host, need: Need) -> int:
    return len(set(need.digests).intersection(host.cached))


def _refusal(
    reasons: Mapping[str, str | None],
    claims: Mapping[str, Claims],
    hosts: Sequence[Host],
    need: Need,
    *,
    wanted: str | None,
) -> HostRefused:
    reason = next((each for each in _REASONS if each in reasons.values()), "none")
    rooms = ", ".join(f"{host.name} {_words(host, reasons[host.name], claims[host.name])}" for host in hosts)
    why = f"{need.memory_mib} MiB are needed; {rooms}" if hosts else "there is no host"
    return HostRefused(wanted or "", reason, why)


def _words(host: Host, reason: str | None, claims: Claims) -> str:
    return f"has {max(0, room_of(host, claims))} MiB left" if reason == "full" else f"is {reason}"
