"""A text served over HTTP to whoever holds a token: `GET /metrics` on loopback, with bounded work for any number of askers.

What is served is made by a function; it is asked at most once in some seconds, however many ask.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

from tasks.engine.errors import HostUnavailable, ImsError

LOOPBACK = "127.0.0.1"
PATH = "/metrics"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
CACHE_SECONDS = 10.0
IDLE = 20
"""So that scrapes take at most a twentieth of a processor, however large the catalog is."""
ASKERS = 8
"""Requests at once; others wait to be accepted."""
REQUEST_SECONDS = 5.0
TOKEN_FILE = "metrics.token"  # noqa: S105  # a name, not a secret


class Kept:
    """The last text, made anew where it is older than `every` seconds and IDLE times what it took to make. Thread-safe.

    A failure is not kept.
    """

    def __init__(
        self, produce: Callable[[], bytes], *, every: float = CACHE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._produce = produce
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._text = b""
        self._good_until: float | None = None

    def text(self) -> bytes:
        """Raises what `produce` raises."""
        with self._lock:
            began = self._clock()
            if self._good_until is None or began >= self._good_until:
                self._text = self._produce()
                made = self._clock()
                self._good_until = made + max(self._every, IDLE * (made - began))
            return self._text


class ScrapeServer(ThreadingHTTPServer):
    """Answers until `shutdown`. Raises HostUnavailable where the port is taken; port 0 is a free one."""

    daemon_threads = True

    def __init__(self, kept: Kept, *, port: int, token: str) -> None:
        self.kept, self.token = kept, token
        self._room = threading.BoundedSemaphore(ASKERS)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise HostUnavailable(
                "port", f"cannot listen on {LOOPBACK}:{port}: {error}", remedy="Name another port."
            ) from error

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}{PATH}"

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class _Handler(BaseHTTPRequestHandler):
    """One request; says nothing of what it serves to who has no token."""

    server: ScrapeServer
    timeout = REQUEST_SECONDS
    server_version, sys_version = "ims", ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"See {PATH}.\n".encode())
        elif not hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {self.server.token}".encode()):
            self._answer(HTTPStatus.UNAUTHORIZED, b"A bearer token is needed.\n", ("WWW-Authenticate", "Bearer"))
        else:
            self._answer_text()

    def log_message(self, format: str, *_: Any) -> None:
        """A scrape every few seconds is no news."""

    def _answer_text(self) -> None:
        try:
            text = self.server.kept.text()
        except ImsError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
        else:
            self._answer(HTTPStatus.OK, text)

    def _answer(self, status: HTTPStatus, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", TEXT), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def token_in(home: Path) -> str:
    """The token of this home: what IMS_HOME/metrics.token holds, made at the first call (mode 0600). Raises HostUnavailable."""
    path = home / TOKEN_FILE
    try:
        if not path.exists():
            _make_token(path)
        token = path.read_text().strip()
    except OSError as error:
        raise HostUnavailable("token", f"{path}: {error.strerror}", remedy="Run `ims up` first, as the same user.") from error
    if not token:
        raise HostUnavailable("token", f"{path} is empty", remedy="Remove it.")
    return token


def _make_token(path: Path) -> None:
    """Whole from the moment its name exists, and the same for all who make it at once."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
