"""compose.yaml's services as processes of this machine, on loopback: the same commands, environments, certificates and
configuration files; only addresses differ. SeaweedFS stands where MinIO does, for which there is no package here.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from composing import FOLDER, filled, read_env, services
from s3_servers import S3Server, free_ports, running_s3

from benchmarks.postgres_server import PostgresServer, run_server

BUCKETS = ("ims-images", "ims-inbox", "ims-exports")
START_SECONDS = 120
REDIS = ["bash", "-c", 'exec -a redis-server /usr/bin/redis-check-rdb "$@"', "redis"]
"""One program is both, and its name decides which. Debian's package redis-server would start a service of its own."""


@dataclass
class Stack:
    """What runs, and where."""

    folder: Path
    env: dict[str, str]
    ports: dict[str, int]
    postgres: PostgresServer
    s3: S3Server
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ca_file(self) -> Path:
        return self.folder / "secrets/ca.crt"

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def api_url(self) -> str:
        return f"https://127.0.0.1:{self.ports['address']}/api"

    def client(self, login: str | None = None) -> httpx.Client:
        """Prefect's API through the one address."""
        user, _, word = (self.env["IMS_PREFECT_AUTH"] if login is None else login).partition(":")
        return httpx.Client(base_url=self.api_url, auth=(user, word) if user else None, verify=self.tls, timeout=30)

    def environment(self, name: str) -> dict[str, str]:
        """What compose.yaml gives this service, with this machine's addresses."""
        values: Mapping[str, str] = filled(services()[name]["environment"], self.env)
        return {key: self._here(value) for key, value in values.items()}

    def _here(self, value: str) -> str:
        """A container's host and port as those of a process; the published ports come first, as they share the names' ports."""
        places = {
            "127.0.0.1:4200": "address",
            "127.0.0.1:9000": "published-s3",
            "127.0.0.1:5432": "published-postgres",
            "postgres:5432": "postgres",
            "redis:6379": "redis",
            "minio:9000": "s3",
            "prefect-api-1:4200": "prefect-api-1",
            "prefect-api-2:4200": "prefect-api-2",
        }
        for name, place in places.items():
            value = value.replace(name, f"127.0.0.1:{self.ports[place]}")
        return value.replace("/secrets/", f"{self.folder}/secrets/").replace("/tmp/prefect", f"{self.folder}/prefect")

    def start(self, name: str, command: list[str], **environment: str) -> None:
        known = {key: value for key, value in os.environ.items() if not key.startswith(("IMS_", "PREFECT_"))}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *command],
                env={**known, **environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def start_prefect(self, name: str) -> None:
        """One of Prefect's services, as compose.yaml says; it ends, where it is one that does, before this returns."""
        service = services()[name]
        home = {
            "PREFECT_HOME": f"{self.folder}/prefect-{name}",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": f"{self.folder}/ui-{name}",
        }
        place = {"PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(self.ports.get(name, 4200))}
        self.start(name, [sys.executable, "-m", *service["command"]], **{**self.environment(name), **home, **place})

    def await_health(self, name: str) -> None:
        address = f"http://127.0.0.1:{self.ports[name]}/api/health"
        await_that(lambda: self.processes[name].poll() is not None or answers(address), f"{name} is not healthy")
        assert self.processes[name].poll() is None, log_of(self, name)


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """The stack up to its one address, everything healthy; ended with the block."""
    subprocess.run([FOLDER / "stack/make-secrets.sh", "127.0.0.1", folder], check=True)
    names = ("address", "published-s3", "published-postgres", "postgres", "redis", "prefect-api-1", "prefect-api-2")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    env = read_env(folder / ".env")
    with ExitStack() as started:
        postgres = started.enter_context(_postgres(folder, ports["postgres"]))
        s3 = started.enter_context(_s3(folder, env))
        stack = Stack(folder, env, {**ports, "s3": int(s3.address.endpoint.rpartition(":")[2])}, postgres, s3)
        started.callback(_end, stack)
        _start(stack)
        yield stack


def _start(stack: Stack) -> None:
    place = ["--port", str(stack.ports["redis"]), "--bind", "127.0.0.1", "--dir", str(stack.folder)]
    stack.start("redis", [*REDIS, f"{stack.folder}/secrets/redis.conf", *place])
    _make_databases(stack)
    stack.start_prefect("prefect-migrate")
    assert stack.processes.pop("prefect-migrate").wait(timeout=START_SECONDS) == 0, log_of(stack, "prefect-migrate")
    for name in ("prefect-api-1", "prefect-api-2", "prefect-services"):
        stack.start_prefect(name)
    for name in ("prefect-api-1", "prefect-api-2"):
        stack.await_health(name)
    stack.start("address", ["haproxy", "-f", str(FOLDER / "stack/haproxy.cfg")], **_listening(stack))
    await_that(lambda: answers(f"{stack.api_url}/health", verify=stack.tls), log_of(stack, "address"))


def _listening(stack: Stack) -> dict[str, str]:
    here = {
        name: f"127.0.0.1:{stack.ports[port]}"
        for name, port in (
            ("LISTEN_PREFECT", "address"),
            ("LISTEN_S3", "published-s3"),
            ("LISTEN_POSTGRES", "published-postgres"),
        )
    }
    return {**stack.environment("address"), **here}


def _end(stack: Stack) -> None:
    for process in stack.processes.values():
        process.terminate()
    for process in stack.processes.values():
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _postgres(folder: Path, port: int) -> Iterator[PostgresServer]:
    """PostgreSQL with TLS, passwords and the stack's own rules on who may enter."""
    readable = folder / "postgres"
    readable.mkdir()
    for source in (folder / "secrets/postgres.crt", folder / "secrets/postgres.key", FOLDER / "stack/pg_hba.conf"):
        shutil.copy(source, readable)
    if os.geteuid() == 0:
        for path in (readable, *readable.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    tls = ["ssl=on", f"ssl_cert_file={readable}/postgres.crt", f"ssl_key_file={readable}/postgres.key"]
    place = ["listen_addresses=127.0.0.1", f"port={port}", f"hba_file={readable}/pg_hba.conf", "max_connections=200"]
    with run_server(*place, *tls) as server:
        yield server


def _make_databases(stack: Stack) -> None:
    command = ["psql", "--quiet", "--no-psqlrc", "--dbname", stack.postgres.url, "--file", str(FOLDER / "stack/databases.sql")]
    subprocess.run(command, check=True, env={**os.environ, **stack.env})


@contextmanager
def _s3(folder: Path, env: dict[str, str]) -> Iterator[S3Server]:
    """SeaweedFS under TLS; its own administrator, and the service's user with the three buckets alone."""
    actions = [f"{action}:{bucket}" for bucket in BUCKETS for action in ("Read", "Write", "List")]
    keys = {"accessKey": env["IMS_S3_ACCESS_KEY"], "secretKey": env["IMS_S3_SECRET_KEY"]}
    identities = folder / "identities.json"
    identities.write_text(json.dumps({"identities": [{"name": "ims", "credentials": [keys], "actions": actions}]}))
    options = [f"-s3.config={identities}", f"-s3.cert.file={folder}/secrets/s3.crt", f"-s3.key.file={folder}/secrets/s3.key"]
    data = folder / "s3"
    data.mkdir()
    with running_s3(data, *options, ca_file=folder / "secrets/ca.crt") as server:
        yield server


def answers(url: str, **options: Any) -> bool:
    try:
        return httpx.get(url, timeout=3, **options).status_code == 200
    except httpx.HTTPError:
        return False


def await_that(look: Callable[[], Any], what: str, *, seconds: float = START_SECONDS) -> Any:
    """What `look` sees as soon as it sees anything."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return seen


def log_of(stack: Stack, name: str) -> str:
    return (stack.folder / f"{name}.log").read_text(errors="replace")[-3000:]
