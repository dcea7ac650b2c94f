"""An http(s) URL becomes a local file, resumable: a download that broke off goes on where it stopped, if the server's
object is still the same one (ETag or Last-Modified). Which URLs are allowed is in `tasks.engine.sources.addresses`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import httpx

from tasks.engine.errors import HostUnavailable, SourceRefused, SourceUnavailable
from tasks.engine.sources.addresses import check_url

MAX_REDIRECTS = 5
BLOCK = 1 << 20
TIMEOUT = httpx.Timeout(30, connect=10)


class Room(NamedTuple):
    """How large a file may become: by policy, and by the space there is; both in bytes."""

    allowed: int
    free: int

    def check(self, size: int, *, present: int) -> None:
        """Raise SourceRefused or HostUnavailable(disk_full) for a file of `size` bytes, `present` of which are here."""
        if size > self.allowed:
            raise SourceRefused("too_large", f"the file is larger than {self.allowed} bytes", remedy="Ask for a larger limit.")
        if size - present > self.free:
            raise _no_space()


OnBytes = Callable[[int, int | None], None]
"""Called with bytes so far and the total, where the total is known."""


def download(url: str, destination: Path, *, allow: str, room: Room, on_bytes: OnBytes | None = None, etag: str = "") -> Path:
    """Fetch `url` into `destination`; a partial file beside it (`.part`) is continued. Raises Source* errors.

    With `etag` only that content is taken: SourceRefused(changed) where the server has another one by now.
    """
    part, memo = destination.with_suffix(".part"), destination.with_suffix(".memo")
    if destination.exists():
        return destination
    have = part.stat().st_size if part.exists() else 0
    validator = json.loads(memo.read_text())["validator"] if have and memo.exists() else ""
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have and validator else {}
    with _open(url, headers, allow=allow) as response:
        _require_same(response, etag)
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise SourceUnavailable("the file changed since the download broke off", remedy="Run it again: it starts over.")
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        have = have if resumed else 0
        length = response.headers.get("content-length")
        total = have + int(length) if length and length.isdigit() else None
        if total is not None:
            room.check(total, present=have)
        memo.write_text(json.dumps({"validator": _validator(response)}))
        _write(response, part, have=have, total=total, room=room, on_bytes=on_bytes)
    part.rename(destination)
    memo.unlink(missing_ok=True)
    return destination


@contextmanager
def _open(url: str, headers: dict[str, str], *, allow: str) -> Iterator[httpx.Response]:
    """The final response of `url`, every redirect checked like the first address."""
    with httpx.Client(trust_env=False, timeout=TIMEOUT, follow_redirects=False) as client:
        for _ in range(MAX_REDIRECTS + 1):
            target = check_url(url, allow=allow)
            request = client.build_request(
                "GET",
                target.pinned_url,
                headers={"Host": target.authority, "Accept-Encoding": "identity", **headers},
                extensions={"sni_hostname": target.host},
            )
            try:
                response = client.send(request, stream=True)
            except httpx.TransportError as error:
                raise SourceUnavailable(f"cannot fetch {target.host}: {error}", remedy="Try again later.") from error
            try:
                if not response.is_redirect:
                    _require_ok(response, target.host)
                    yield response
                    return
                url = urljoin(url, response.headers.get("location", ""))
            finally:
                response.close()
    raise SourceRefused("address", f"more than {MAX_REDIRECTS} redirects", remedy="Give the final URL.")


def _require_ok(response: httpx.Response, host: str) -> None:
    status = response.status_code
    if status >= 500 or status in (408, 425, 429):
        raise SourceUnavailable(f"{host} answered {status}", remedy="Try again later.")
    if status not in (200, 206, 416):
        raise SourceRefused("missing", f"{host} answered {status}", remedy="Check the URL and its permissions.")


def _require_same(response: httpx.Response, etag: str) -> None:
    if etag and str(response.headers.get("etag", "")).removeprefix("W/").strip('"') != etag:
        raise SourceRefused("changed", "the file is another one than was asked for", remedy="Ask for the present one.")


def _validator(response: httpx.Response) -> str:
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("last-modified", ""))


def _write(response: httpx.Response, part: Path, *, have: int, total: int | None, room: Room, on_bytes: OnBytes | None) -> None:
    try:
        with part.open("r+b" if have else "wb") as out:
            out.seek(have)
            for block in response.iter_raw(BLOCK):
                have += len(block)
                room.check(have, present=have)
                out.write(block)
                if on_bytes:
                    on_bytes(have, total)
            os.fsync(out.fileno())
    except httpx.TransportError as error:
        raise SourceUnavailable(f"the download broke off after {have} bytes", remedy="Run it again: it resumes.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space() from error
        raise
    if total is not None and have < total:
        raise SourceUnavailable(f"the download ended after {have} of {total} bytes", remedy="Run it again: it resumes.")


def _no_space() -> HostUnavailable:
    return HostUnavailable("disk_full", "no space left for the download", remedy="Free space in IMS_HOME; it resumes.")


def fetch_start(url: str, length: int, *, allow: str, etag: str = "") -> tuple[bytes, int | None]:
    """The first `length` bytes of `url`, fewer where it is shorter, and its whole length where the server tells."""
    with _open(url, {"Range": f"bytes=0-{length - 1}"}, allow=allow) as response:
        _require_same(response, etag)
        total = _total(response)
        start = bytearray()
        try:
            for block in response.iter_raw(BLOCK):
                start += block
                if len(start) >= length:
                    break
        except httpx.TransportError as error:
            raise SourceUnavailable(f"the download broke off after {len(start)} bytes", remedy="Try again.") from error
    return bytes(start[:length]), total


def _total(response: httpx.Response) -> int | None:
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        text = response.headers.get("content-range", "").rpartition("/")[2]
    else:
        text = response.headers.get("content-length", "")
    return int(text) if text.isdigit() else None
