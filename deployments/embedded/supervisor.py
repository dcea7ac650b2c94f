"""Brings the services of one IMS_HOME up and down, in order, one command at a time. What each service is, is in its module."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from deployments.embedded import (
    agent,
    inbox,
    layout,
    libvirt_services,
    metrics,
    prefect_services,
    processes,
    provisioning,
    seaweed,
    services,
    watcher,
)
from deployments.embedded import site as sites
from deployments.embedded.reports import ServiceStatus, Status
from deployments.embedded.services import Service
from deployments.embedded.site import Site
from tasks.engine.errors import HostUnavailable, OperationBusy
from tasks.engine.settings import Settings

LOCK_FILE = "run/up.lock"
LOCK_SECONDS = 300.0
LOCK_POLL_SECONDS = 0.1
STOP_SECONDS = 20.0
REVIVED = ("agent", "worker")


def up(settings: Settings) -> Status:
    """Start what is not running and prepare what it must hold. Raises ImsError; what did start stays up."""
    layout.make_folders(settings.home)
    with _exclusive(settings.home / LOCK_FILE):
        site = _ground(settings)
        _all(
            [
                lambda: _ensure(site, agent.service(site)),
                lambda: _ensure(site, inbox.service(site)),
                lambda: _ensure(site, prefect_services.worker(site)),
                lambda: _metrics(site),
                lambda: _ensure(site, watcher.service(site)),
                lambda: provisioning.register_deployments(site),
            ]
        )
    return status(settings)


def _ground(settings: Settings) -> Site:
    """Choose the site and start what everything else needs; a port that another program took meanwhile is moved once."""
    try:
        return _start_ground(settings)
    except HostUnavailable as error:
        if "in use" not in error.message:
            raise
    return _start_ground(settings)


def _start_ground(settings: Settings) -> Site:
    site = sites.choose(settings)
    _all([lambda: _store(site), lambda: _prefect(site), _libvirt_of(site), lambda: _catalog(site)])
    return site


def down(settings: Settings) -> Status:
    """Stop what `up` started here; data stays. Guests go on, and libvirt with them."""
    layout.require_owner(settings.home)
    if settings.home.is_dir():
        with _exclusive(settings.home / LOCK_FILE):
            _stop_all(settings.home, ("watcher", "worker", "agent", "inbox", metrics.NAME))
            _stop_all(settings.home, ("prefect", "s3"))
            seaweed.remove_sockets(settings.home)
            _stop_libvirt(settings.home)
    return status(settings)


def fallen(settings: Settings) -> set[str]:
    """Which of the host's own services were started here and have died."""
    records = {name: services.read_record(settings.home, name) for name in REVIVED}
    return {name for name, record in records.items() if record and not processes.is_alive(record)}


def revive(settings: Settings) -> set[str]:
    """Start those again. Raises OperationBusy while an `up` or `down` is under way, HostUnavailable if one does not start."""
    with _exclusive(settings.home / LOCK_FILE, seconds=0):
        site = sites.look_up(settings)
        names = fallen(settings)
        for name in names:
            _start(site, _embedded(site)[name])
    return names


def status(settings: Settings) -> Status:
    """What is true now; changes nothing."""
    site = sites.look_up(settings)
    embedded = _embedded(site)
    with ThreadPoolExecutor(max_workers=8) as pool:
        shown = dict(zip(embedded, pool.map(lambda service: services.look(site.home, service), embedded.values()), strict=True))
    return Status(
        services=shown | _libvirt_status(site),
        prefect_ui=site.ui_url,
        prefect_login=str(site.login_file) if site.login else "",
    )


def _embedded(site: Site) -> dict[str, Service]:
    found = [agent.service(site), inbox.service(site), prefect_services.worker(site), watcher.service(site)]
    if site.embeds_s3:
        found.insert(0, seaweed.service(site, seaweed.known_ports(site)))
    if site.embeds_prefect:
        found.insert(1, prefect_services.server(site))
    if site.settings.metrics_port:
        found.append(metrics.service(site, site.settings.metrics_port))
    return {service.name: service for service in found}


def _store(site: Site) -> None:
    if site.embeds_s3 and not services.is_current(site.home, seaweed.service(site, seaweed.known_ports(site))):
        services.stop(site.home, "s3", seconds=STOP_SECONDS)
        services.start(site.home, seaweed.service(site, seaweed.prepare(site)))
    provisioning.make_buckets(site.settings)


def _prefect(site: Site) -> None:
    if site.embeds_prefect:
        _ensure(site, prefect_services.server(site))


def _metrics(site: Site) -> None:
    """Served where a port is named; one that was served before and is not wanted any more ends."""
    if site.settings.metrics_port:
        _ensure(site, metrics.service(site, site.settings.metrics_port))
    else:
        services.stop(site.home, metrics.NAME, seconds=STOP_SECONDS)


def _catalog(site: Site) -> None:
    from deployments.embedded import catalog  # SQLAlchemy takes half a second to import, and `ims status` has no use for it

    catalog.prepare(site.settings)


def _ensure(site: Site, service: Service) -> None:
    if not services.is_current(site.home, service):
        _start(site, service)


def _start(site: Site, service: Service) -> None:
    """Nothing of the one before is left when it starts."""
    if service.name == "worker":
        services.stop(site.home, service.name, seconds=service.stop_seconds)
        prefect_services.requeue(site)
    services.start(site.home, service)


def _libvirt_of(site: Site) -> Callable[[], None]:
    def start() -> None:
        if not libvirt_services.applies(site.settings) or libvirt_services.has_service_manager():
            return
        with _exclusive(libvirt_services.START_LOCK):
            for name in libvirt_services.NAMES:
                if not libvirt_services.serves(name):
                    services.start(site.home, libvirt_services.service(name))

    return start


def _libvirt_status(site: Site) -> dict[str, ServiceStatus]:
    if not libvirt_services.applies(site.settings):
        return {}
    shown = {}
    for name in libvirt_services.NAMES:
        own = services.look(site.home, libvirt_services.service(name))
        foreign = libvirt_services.foreign_status(name)
        shown[name] = own if own.state == "running" or foreign.state == "stopped" else foreign
    return shown


def _all(steps: list[Callable[[], None]]) -> None:
    """Run them side by side, let each finish, then raise the first failure."""
    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        futures = [pool.submit(step) for step in steps]
    for future in futures:
        future.result()


def _stop_libvirt(home: Path) -> None:
    """Unless somebody uses it: a guest without its libvirtd could not even be stopped. The next `down` looks again."""
    record = services.read_record(home, "libvirtd")
    if record and processes.is_alive(record) and libvirt_services.in_use(record.pid):
        return
    for name in reversed(libvirt_services.NAMES):
        services.stop(home, name, seconds=STOP_SECONDS)


def _stop_all(home: Path, names: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        list(pool.map(lambda name: services.stop(home, name, seconds=STOP_SECONDS), names))


@contextmanager
def _exclusive(path: Path, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file, waiting for another `up` or `down`. Raises OperationBusy."""
    deadline = time.monotonic() + seconds
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OperationBusy(f"another `ims up` or `ims down` holds {path}", remedy="Wait for it to end.") from None
                time.sleep(LOCK_POLL_SECONDS)
        yield
