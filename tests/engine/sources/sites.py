"""A real HTTP server on loopback that can break off, change its object, redirect and refuse ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server does next; tests change it between requests."""

    body: bytes = b""
    etag: str = '"one"'
    status: int = 200
    location: str = ""
    break_after: int | None = None
    ranges: list[str] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/disk") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def allow(self) -> str:
        return f"127.0.0.1:{self.port}"


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.ranges.append(self.headers.get("Range", ""))
            if site.status != 200:
                self.send_response(site.status)
                self.send_header("Location", site.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            if "Range" in self.headers and self.headers.get("If-Range") == site.etag:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start and start >= len(site.body):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(site.body) - start))
            self.send_header("ETag", site.etag)
            self.end_headers()
            self.wfile.write(site.body[start : site.break_after or None])
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    return Handler


class _Server(ThreadingHTTPServer):
    """A client that hangs up is part of these tests."""

    def handle_error(self, *_: object) -> None:
        return


@contextmanager
def serve() -> Iterator[Site]:
    """A Site that is served for as long as the context lasts."""
    site = Site()
    server = _Server(("127.0.0.1", 0), _handler(site))
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
