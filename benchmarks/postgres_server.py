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
from pathlib import Path

import psycopg


def _postgres(*command: str) -> list[str]:
    """The command line of one of the server's programs, as user postgres if need be, ending when we end."""
    folder = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    user = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *user, "--pdeathsig=QUIT", str(folder / command[0]), *command[1:]]


@contextmanager
def run_postgres() -> Iterator[str]:
    """A fresh server, quick because it never syncs; yields the address of its database `postgres`."""
    folder = tempfile.mkdtemp(prefix="ims-postgres-")
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = ["-D", f"{folder}/data"]
    initdb = _postgres("initdb", *data, "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
    server = None
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        with open(f"{folder}/log", "wb") as log:
            options = ["-k", folder, "-c", "listen_addresses=", "-F", "-c", "full_page_writes=off"]
            command = _postgres("postgres", *data, *options)
            server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        _wait_for(server, folder=folder)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(folder)


def _wait_for(server: subprocess.Popen[bytes], *, folder: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=folder, user="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
