"""Which loopback ports the services use. Chosen once, kept while free; who listens on them is in the services' own modules."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from pathlib import Path

from deployments.embedded.layout import write_secret
from tasks.engine.errors import RequestRefused

LOOPBACK = "127.0.0.1"
ENDING_SECONDS = 3.0
INTERNAL = range(20000, 22000)
"""Below every ephemeral range, so that an outgoing connection cannot take one while the service is down."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now; a closed connection's TIME_WAIT does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _becomes_free(port: int) -> bool:
    """Whether it is free within a few seconds: a server that was killed may be gone before its socket is."""
    deadline = time.monotonic() + ENDING_SECONDS
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return free


def public_port(setting: str, *, remembered: int | None, usual: int) -> int:
    """The port of a service that people address: the one set by the user, else the last one, the usual one or a free one."""
    if text := os.environ.get(setting):
        return _explicit(setting, text)
    if remembered and _becomes_free(remembered):
        return remembered
    return usual if is_free(usual) else _any_free(taken=set())


def explicit_port(setting: str) -> int | None:
    """The port the user set, checked for its form alone."""
    text = os.environ.get(setting)
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise RequestRefused("port", f"{setting}={text[:40]!r} is no port", remedy=f"Set {setting} to 1 to 65535.")
    return int(text)


def _explicit(setting: str, text: str) -> int:
    port = explicit_port(setting)
    if port is None or not _becomes_free(port):
        raise RequestRefused("port", f"port {text} of {setting} is taken", remedy=f"Set {setting} to a free port or unset it.")
    return port


def internal_ports(names: tuple[str, ...], *, remembered: Path) -> dict[str, int]:
    """The service's own ports by name, each with its twin 10000 above; those of last time while all are free."""
    ports = read_remembered(remembered)
    if set(ports) != set(names) or not all(_pair_free(port) for port in ports.values()):
        ports = {}
        for name in names:
            ports[name] = _any_free(taken=set(ports.values()))
        write_secret(remembered, json.dumps(ports))
    return ports


def read_remembered(path: Path) -> dict[str, int]:
    return {name: int(port) for name, port in json.loads(path.read_text()).items()} if path.exists() else {}


def _any_free(*, taken: set[int]) -> int:
    for port in random.sample(INTERNAL, len(INTERNAL)):  # not for secrecy: two homes should seldom meet
        if port not in taken and _pair_free(port):
            return port
    raise RequestRefused("port", "no port from 20000 to 21999 is free", remedy="Stop what listens on them.")


def _pair_free(port: int) -> bool:
    return is_free(port) and is_free(port + 10000)
