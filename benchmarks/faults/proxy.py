"""A proxy before an S3 server that fails as networks and servers do: 503, dropped halfway, slow, stopped.

Requests pass unchanged, the signed Host header among them. The mode is switched by a call in this process, at once or at the
n-th request from now, which is the same moment in every run whatever the machine's load.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 64 << 10
SLOW_SECONDS = 0.3
SLOW_BYTES = 512 << 10
"""How long a slow store thinks before it answers, and how many bytes a second it moves."""
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message>"
    b"<Resource>/</Resource><RequestId>0</RequestId></Error>"
)
UPSTREAM_SECONDS = 60.0
NOT_PASSED = frozenset({"connection", "keep-alive", "transfer-encoding"})
WITHOUT_BODY = frozenset({204, 304})


class Mode(StrEnum):
    """What happens to requests now."""

    PASS = "pass"
    ANSWER_503 = "answer 503"
    DROP = "drop halfway"
    SLOW = "slow"
    STOP = "stop"


class FaultProxy:
    """Listens on a loopback port of its own, the same until `close`; `requests` counts those that came."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.requests = 0
        self._lock = threading.Lock()
        self._mode = Mode.PASS
        self._at: tuple[int, Callable[[], object]] | None = None
        self._live: set[socket.socket] = set()
        self._server: _Server | None = None
        self._port = 0
        self._listen()

    @property
    def endpoint(self) -> str:
        """host:port that clients use."""
        return f"127.0.0.1:{self._port}"

    @property
    def mode(self) -> Mode:
        return self._mode

    def switch(self, mode: Mode) -> None:
        """From now on; a connection that is under way when the store stops is cut."""
        before, self._mode = self._mode, mode
        if mode is Mode.STOP and before is not Mode.STOP:
            self._deafen()
        if mode is not Mode.STOP and before is Mode.STOP:
            self._listen()

    def at(self, request: int, call: Callable[[], object]) -> None:
        """Call this before the n-th request from now is dealt with; another one that was waiting is forgotten."""
        with self._lock:
            self._at = (self.requests + request, call)

    def forget(self) -> None:
        """Call nothing any more."""
        with self._lock:
            self._at = None

    def close(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._deafen()

    def admit(self) -> tuple[Mode, int]:
        """Count a request; what is to happen to it, and its number."""
        call: Callable[[], object] | None = None
        with self._lock:
            self.requests += 1
            number = self.requests
            if self._at is not None and number >= self._at[0]:
                call, self._at = self._at[1], None
        if call is not None:
            call()
        return self._mode, number

    def note(self, connection: socket.socket, *, live: bool) -> None:
        """A client's connection has begun or ended."""
        with self._lock:
            (self._live.add if live else self._live.discard)(connection)

    def _listen(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serve.start()

    def _deafen(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.socket.close()  # refuses at once; the loop ends when it looks again
        threading.Thread(target=server.shutdown, daemon=True).start()
        with self._lock:
            live = list(self._live)
        for connection in live:
            _reset(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(address, _Relay)

    def server_bind(self) -> None:
        """Without the name look-up of the standard library."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that end early are what this is for."""


class _Dropped(ConnectionError):
    """The connection is to be cut here."""


class _Relay(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        proxy = self.server.proxy
        proxy.note(self.connection, live=True)
        try:
            super().handle()
        except OSError:
            _reset(self.connection)
        finally:
            proxy.note(self.connection, live=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def relay(self) -> None:
        """Deal with one request as the mode says."""
        mode, number = self.server.proxy.admit()
        length = int(self.headers.get("Content-Length") or 0)
        if mode is Mode.STOP:
            raise _Dropped
        if mode is Mode.ANSWER_503:
            self._refuse(length)
            return
        if mode is Mode.SLOW:
            time.sleep(SLOW_SECONDS)
        pace = SLOW_BYTES if mode is Mode.SLOW else 0
        # Every other request is dropped before the store had it all, the others when it has done it: nobody is told.
        lost_request, lost_answer = (mode is Mode.DROP and number % 2 == which for which in (1, 0))
        upstream = http.client.HTTPConnection(self.server.proxy.upstream, timeout=UPSTREAM_SECONDS)
        try:
            self._send(upstream, length, pace=pace, drop=lost_request)
            self._answer(upstream.getresponse(), pace=pace, drop=lost_answer)
        except http.client.HTTPException as error:
            raise _Dropped from error
        finally:
            upstream.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay  # the standard library's names

    def _refuse(self, length: int) -> None:
        for _ in self._pieces(self.rfile, length, pace=0):
            pass
        self.send_response_only(503, "Slow Down")
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(SLOW_DOWN)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(SLOW_DOWN)

    def _send(self, upstream: http.client.HTTPConnection, length: int, *, pace: int, drop: bool) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders()
        for piece in self._pieces(self.rfile, length // 2 if drop else length, pace=pace):
            upstream.send(piece)
        if drop:
            raise _Dropped

    def _answer(self, answer: http.client.HTTPResponse, *, pace: int, drop: bool) -> None:
        length = int(answer.headers.get("Content-Length") or 0)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_PASSED:
                self.send_header(name, value)
        body = None
        if "Content-Length" not in answer.headers and answer.status not in WITHOUT_BODY:
            body = answer.read()  # a listing's or an error's, which are short
            length = len(body)
            self.send_header("Content-Length", str(length))
        if drop and (self.command == "HEAD" or not length):
            raise _Dropped
        self.end_headers()
        if self.command == "HEAD" or answer.status in WITHOUT_BODY:
            return
        if body is not None:
            self.wfile.write(body[: length // 2] if drop else body)
        else:
            for piece in self._pieces(answer, length // 2 if drop else length, pace=pace):
                self.wfile.write(piece)
        if drop:
            raise _Dropped

    @staticmethod
    def _pieces(source: Any, length: int, *, pace: int) -> Any:
        while length:
            piece = source.read(min(PIECE, length))
            if not piece:
                raise _Dropped
            length -= len(piece)
            if pace:
                time.sleep(len(piece) / pace)
            yield piece


def _reset(connection: socket.socket) -> None:
    """End it so that the other side notices at once."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
