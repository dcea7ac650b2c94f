"""A PostgreSQL server to measure and to test with: fresh, quick because it never syncs, on a unix socket alone.

It runs as user postgres when we are root, which it refuses to be.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg


def _postgres(*command: str) -> list[str]:
    """The command line of one of the server's programs, as user postgres if need be, ending when we end."""
    folder = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=QUIT", str(folder / command[0]), *command[1:]]


@contextmanager
def run_postgres(*settings: str) -> Iterator[str]:
    """A fresh server, quick because it never syncs; yields the address of its database `postgres`.

    `settings` are more of the server's own, as `name=value`.
    """
    with run_server(*settings) as server:
        yield server.url


@dataclass
class PostgresServer:
    """A server that can be stopped and started again in the middle of a test."""

    folder: str
    settings: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the database `postgres`, for its superuser, on the unix socket."""
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"

    @property
    def port(self) -> int:
        """Of its socket; it listens on TCP where the settings say so."""
        return int(dict(setting.split("=", 1) for setting in self.settings).get("port", "5432"))

    def start(self) -> None:
        options = ["-k", self.folder, "-c", "listen_addresses=", "-F", "-c", "full_page_writes=off"]
        options += [word for setting in self.settings for word in ("-c", setting)]
        command = _postgres("postgres", "-D", f"{self.folder}/data", *options)
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        _wait_for(self.process, folder=self.folder, port=self.port)

    def stop(self) -> None:
        """End it at once; who is connected is thrown out."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=30)
            self.process = None


@contextmanager
def run_server(*settings: str) -> Iterator[PostgresServer]:
    """The server itself, running; gone when the block ends."""
    folder = tempfile.mkdtemp(prefix="ims-postgres-")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    initdb = _postgres("initdb", "-D", f"{folder}/data", "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
    server = PostgresServer(folder, settings)
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _wait_for(server: subprocess.Popen[bytes], *, folder: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=folder, port=port, user="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
