"""A whole deployment for a measurement: the services that `ims up` starts, in a home of their own, and questions to them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from deployments import embedded
from deployments.embedded import probes
from models.accounts import get_account
from tasks.engine.settings import load_settings
from tasks.guests import discard_guest
from tasks.resources import catalog, hypervisor

HAND_OVERS = 20


@contextmanager
def fresh_home() -> Iterator[Path]:
    """An empty folder that QEMU's user can enter; gone when the block ends."""
    home = Path(tempfile.mkdtemp(prefix="ims-bench-", dir="/var/tmp"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def deployment(home: Path, **settings: str) -> Iterator[None]:
    """The services of `home`, which this process and all that it starts mean; `settings` are environment variables."""
    port = {"IMS_HOME": str(home), "IMS_PREFECT_PORT": str(free_port())}
    with ExitStack() as stack:
        stack.enter_context(_environment({**port, **settings}))
        stack.callback(lambda: embedded.down(load_settings()))
        stack.callback(_remove_guests)
        embedded.up(load_settings())
        _raise_quota()
        yield


def ask_prefect(path: str, body: dict[str, object] | None = None) -> Any | None:
    """The Prefect API's answer, None where there is none."""
    settings = load_settings()
    login = (settings.home / "prefect.login").read_text().strip()
    return probes.prefect_call(settings.prefect_api_url, path, login=login, body=body)


def hand_over(flow: str, parameters: dict[str, Any]) -> str:
    """Queue a run of a deployment for the worker, as `ims --detach` does; its id. Raises RuntimeError.

    A busy server may answer too late; asked again with the same key, it makes no second run.
    """
    key = {"idempotency_key": str(uuid.uuid4())}
    wanted: dict[str, object] = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **key}
    for _ in range(HAND_OVERS):
        deployed = ask_prefect(f"/deployments/name/{flow}/{flow}")
        if run := deployed and ask_prefect(f"/deployments/{deployed['id']}/create_flow_run", wanted):
            return str(run["id"])
        time.sleep(1)
    raise RuntimeError(f"the Prefect server took no run of {flow}")


def until(condition: Callable[[], bool], *, seconds: float, pause: float = 0.25) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_on_sigterm() -> None:
    """Whoever is told to end ends what it started first, as after an error."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, stop)


def own_guests(home: Path) -> list[str]:
    """Ids of this home's domains, running or not."""
    with hypervisor() as host:
        domains = host.connection.listAllDomains()
        return [each.name().removeprefix("ims-") for each in domains if f"{home}/" in each.XMLDesc(0)]


def _remove_guests() -> None:
    for ecs_id in own_guests(load_settings().home):
        discard_guest(ecs_id)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """This process and all that it starts mean this home."""
    before = {name: value for name, value in os.environ.items() if name.startswith(("IMS_", "PREFECT_"))}
    for name in before:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


def _raise_quota() -> None:
    with catalog(write=True) as session:
        account = get_account(session, name="admin")
        account.max_images, account.max_creations = 10_000, 1000
        session.add(account)
