"""The service that is put through faults: a home of its own, its catalog in a PostgreSQL server and its store behind the proxy.

Everything that was started ends with the block, whatever ends it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.deployment import ask_prefect, deployment, fresh_home
from benchmarks.embedded_store import embedded_store
from benchmarks.faults.proxy import FaultProxy, Mode
from benchmarks.postgres_server import PostgresServer, run_server

COMMAND_SECONDS = 600.0


@dataclass(frozen=True)
class Answer:
    """One finished command: exit code, JSON, and what it said on standard error."""

    status: int
    values: dict[str, Any]
    words: str

    @property
    def code(self) -> str:
        """The error's code, empty where there was none."""
        return str(self.values.get("error", {}).get("code", ""))

    @property
    def short(self) -> str:
        """For a person: how it ended."""
        last = (self.words.strip().splitlines() or ["no words"])[-1]
        return f"exit {self.status}, {self.code or last[-300:]}"


@dataclass
class World:
    """One IMS_HOME with its services; commands are processes of their own, each the leader of its process group."""

    home: Path
    database: PostgresServer
    proxy: FaultProxy
    _running: dict[int, tuple[subprocess.Popen[bytes], Path, Path]] = field(default_factory=dict)
    _begun: int = 0

    @property
    def files(self) -> Path:
        """Where the disks to import lie."""
        return self.home / "files"

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; what it prints goes to files, so that it never waits for a reader."""
        self._begun += 1
        printed, said = (self.home / "tmp" / f"command-{self._begun}.{name}" for name in ("out", "err"))
        command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
        with printed.open("wb") as out, said.open("wb") as err:
            begun = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        self._running[begun.pid] = (begun, printed, said)
        return begun

    def end(self, begun: subprocess.Popen[bytes], *, seconds: float = COMMAND_SECONDS) -> Answer:
        """Wait for it. Raises TimeoutExpired."""
        status = begun.wait(timeout=seconds)
        _, printed, said = self._running.pop(begun.pid)
        values, words = printed.read_text(), said.read_text(errors="replace")
        printed.unlink()
        said.unlink()
        try:
            return Answer(status, json.loads(values), words)
        except json.JSONDecodeError:
            return Answer(status, {}, words)

    def ims(self, *arguments: str) -> Answer:
        """Run a command to its end."""
        return self.end(self.begin(*arguments))

    def must(self, *arguments: str) -> dict[str, Any]:
        """Run a command that must succeed. Raises RuntimeError."""
        done = self.ims(*arguments)
        if done.status != 0:
            raise RuntimeError(f"ims {' '.join(arguments)}: {done.short}")
        return done.values

    def kill(self, begun: subprocess.Popen[bytes]) -> None:
        """Kill -9 a command with its children."""
        with suppress(ProcessLookupError):
            os.killpg(begun.pid, signal.SIGKILL)

    def prefect(self, path: str, body: dict[str, object] | None = None) -> Any | None:
        """The Prefect API's answer, None where there is none."""
        return ask_prefect(path, body)

    def heal(self) -> None:
        """Every fault is over, whatever happened."""
        self.proxy.forget()
        self.proxy.switch(Mode.PASS)
        start_database(self.database)

    def clear(self) -> None:
        """End what was started through this object."""
        for begun, *_ in list(self._running.values()):
            self.kill(begun)
            begun.wait()


@contextmanager
def faulty_world() -> Iterator[World]:
    """Bring it up; take it down."""
    with (
        fresh_home() as home,
        run_server("max_connections=200") as database,
        embedded_store(home / "store") as store,
        closing(FaultProxy(store.endpoint)) as proxy,
        ExitStack() as stack,
    ):
        keys = {"IMS_S3_ACCESS_KEY": store.access_key, "IMS_S3_SECRET_KEY": store.secret_key}
        where = {"IMS_DATABASE_URL": database.url, "IMS_S3_ENDPOINT": proxy.endpoint}
        stack.enter_context(deployment(home, **where, **keys))
        world = World(home, database, proxy)
        world.files.mkdir(mode=0o711)
        stack.callback(world.heal)
        stack.callback(world.clear)
        yield world


def start_database(server: PostgresServer) -> None:
    """Again, where it does not run: what a killed one left in memory is gone after a moment."""
    if server.process is not None and server.process.poll() is None:
        return
    for attempt in range(40):
        with suppress(Exception if attempt < 39 else ZeroDivisionError):  # the last one's error is told
            server.start()
            return
        time.sleep(0.25)
