"""A real S3 server for tests: SeaweedFS, plain or under TLS."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.engine.blobs.s3 import S3Address, open_bucket
from tasks.engine.errors import ImsError

START_SECONDS = 60
WEED = str(Path(sys.executable).parent / "weed")
SERVICES = ("master.port", "filer.port", "volume.port", "s3.port")


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: where it listens, and the one identity it knows."""

    address: S3Address
    process: subprocess.Popen[bytes]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running_s3(folder: Path, *options: str, ca_file: Path | None = None) -> Iterator[S3Server]:
    """SeaweedFS on loopback with its own ports, keys and data folder, under TLS where `options` name a certificate and
    `ca_file` its authority; gone when the block ends.
    """
    ports = free_ports(2 * len(SERVICES))
    flags = [f"-{service}={port}" for service, port in zip(SERVICES, ports, strict=False)]
    flags += [f"-{service}.grpc={port}" for service, port in zip(SERVICES, ports[len(SERVICES) :], strict=True)]
    address = S3Address(
        f"127.0.0.1:{ports[SERVICES.index('s3.port')]}",
        "tests",
        secrets.token_hex(16),
        secure=ca_file is not None,
        ca_file=str(ca_file) if ca_file else None,
    )
    environment = os.environ | {"AWS_ACCESS_KEY_ID": address.access_key, "AWS_SECRET_ACCESS_KEY": address.secret_key}
    command = [WEED, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false"]
    command += [*flags, "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false"]
    command += [*options, "-webdav=false", f"-s3.localSocket={folder}/s3.sock", f"-filer.localSocket={folder}/filer.sock"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_s3(S3Server(address, process))
        yield S3Server(address, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_s3(server: S3Server) -> None:
    """Return when the server takes authenticated calls for its bucket service."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            open_bucket(server.address, "started", patience=0).create()
            return
        except ImsError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
