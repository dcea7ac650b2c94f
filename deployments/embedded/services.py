"""One service: what to run, where it answers, how to see that it is ready; how to start and stop it.

When and in which order that happens is in `supervisor`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from deployments.embedded import processes
from deployments.embedded.layout import write_secret
from deployments.embedded.processes import Record
from deployments.embedded.reports import ServiceStatus
from tasks.engine.errors import HostUnavailable

TAIL_LINES = 12
READY_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Service:
    """`environment` is what the service must be restarted for when it changes; `secrets` may be new at every start."""

    name: str
    command: tuple[str, ...]
    address: str
    ready: Callable[[float], bool]
    """Whether it serves now; a sign of life that is older than this time (seconds since the epoch) does not count."""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    umask: int = 0o077
    start_seconds: float = 60
    stop_seconds: float = 10

    @property
    def fingerprint(self) -> str:
        text = json.dumps([self.command, sorted(self.environment.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def record_path(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.json"


def log_path(home: Path, name: str) -> Path:
    return home / "logs" / f"{name}.log"


def read_record(home: Path, name: str) -> Record | None:
    """What was written when it was started; a file that is not ours to understand counts as none."""
    try:
        return Record.model_validate_json(record_path(home, name).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def is_current(home: Path, service: Service) -> bool:
    """Whether it runs with these very settings and answers."""
    record = read_record(home, service.name)
    return bool(record and record.fingerprint == service.fingerprint and processes.is_alive(record) and service.ready(0))


def inherited_environment() -> dict[str, str]:
    """The caller's environment without its Prefect settings: those of this home are meant, and the environment would win."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}


def start(home: Path, service: Service) -> None:
    """Replace what is left of it by a new process and wait until it serves. Raises HostUnavailable with the log's end."""
    stop(home, service.name, seconds=service.stop_seconds)
    log = log_path(home, service.name)
    since = time.time()
    record = processes.spawn(
        service.command,
        environment={**inherited_environment(), **service.environment, **service.secrets},
        log=log,
        umask=service.umask,
        fingerprint=service.fingerprint,
    )
    write_secret(record_path(home, service.name), record.model_dump_json())
    _wait_ready(service, record, since=since, log=log)


def stop(home: Path, name: str, *, seconds: float) -> None:
    """End it if it is ours, and forget it."""
    if record := read_record(home, name):
        processes.stop(record, seconds=seconds)
    record_path(home, name).unlink(missing_ok=True)


def look(home: Path, service: Service) -> ServiceStatus:
    """What is true of it now."""
    record = read_record(home, service.name)
    shown = ServiceStatus(state="stopped", address=service.address, log=str(log_path(home, service.name)))
    if record is None:
        return shown
    if not processes.is_alive(record):
        return shown.model_copy(update={"state": "failed", "note": "ended without `ims down`"})
    if not service.ready(0):
        return shown.model_copy(update={"state": "failed", "pid": record.pid, "note": "does not answer"})
    return shown.model_copy(update={"state": "running", "pid": record.pid})


def tail(log: Path, *, lines: int = TAIL_LINES) -> str:
    """The log's last lines as one."""
    written = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " | ".join(line.strip() for line in written[-lines:] if line.strip())


def _wait_ready(service: Service, record: Record, *, since: float, log: Path) -> None:
    deadline = time.monotonic() + service.start_seconds
    while not service.ready(since):
        if not processes.is_alive(record):
            raise _not_started(service, log, "ended at once")
        if time.monotonic() > deadline:
            raise _not_started(service, log, f"does not answer after {service.start_seconds:.0f} s")
        time.sleep(READY_POLL_SECONDS)


def _not_started(service: Service, log: Path, what: str) -> HostUnavailable:
    return HostUnavailable(
        "service",
        f"{service.name} {what}; its last words: {tail(log) or '(none)'}",
        remedy=f"See {log}, then run `ims up` again.",
    )
