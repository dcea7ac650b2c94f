"""The receiver: takes the store's bucket notifications over HTTP and answers 2xx once Prefect has the event.

`ims up` and `ims inbox serve` run it. What it could not pass on is answered 503 and posted again by the store, and
what never came is found by the scheduled sweep. No secret is logged.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.engine.errors import RequestRefused
from tasks.engine.inbox import HEALTH, PATH
from tasks.engine.inbox.notification import Announced, events_of, read_notice
from tasks.engine.settings import Settings, load_settings

log = logging.getLogger("ims.inbox")

MAX_BODY = 1 << 20
BODY_SECONDS = 10.0
PREFECT_SECONDS = 10.0
MAX_CONNECTIONS = 64


@dataclass(frozen=True, kw_only=True)
class Door:
    """Whom it lets in and whom it tells; `login` is the user:password pair of the Prefect API, empty where it asks for none."""

    bucket: str
    prefect_api_url: str
    token: str = field(repr=False)
    login: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Door:
        """Raises RequestRefused(inbox_token) without a token: an open door would start runs for anybody."""
        token = settings.inbox_token.get_secret_value() if settings.inbox_token else ""
        if not token:
            remedy = "Run `ims up`, which makes one, or set IMS_INBOX_TOKEN."
            raise RequestRefused("inbox_token", "the receiver has no token to ask for", remedy=remedy)
        login = settings.prefect_auth.get_secret_value() if settings.prefect_auth else ""
        return cls(bucket=settings.inbox_bucket, prefect_api_url=settings.prefect_api_url, token=token, login=login)

    def lets_in(self, authorization: str) -> bool:
        """Whether the header is `Bearer` and the token; how long it takes tells nothing of the token."""
        scheme, _, given = authorization.partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return same and scheme.lower() == "bearer"


class _TooLarge(Exception):
    pass


def make_app(door: Door) -> Starlette:
    """The receiver as an ASGI application."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        user, _, password = door.login.partition(":")
        auth = httpx.BasicAuth(user, password) if door.login else None
        async with httpx.AsyncClient(auth=auth, timeout=PREFECT_SECONDS, trust_env=False) as client:
            app.state.client = client
            yield

    async def notify(request: Request) -> JSONResponse:
        if not door.lets_in(request.headers.get("authorization", "")):
            return _answer(401, "account.key", {"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
            notice = read_notice(body, bucket=door.bucket)
        except _TooLarge:
            return _answer(413, "request.too_large")
        except (TimeoutError, ClientDisconnect):
            return _answer(408, "request.timeout")
        except RequestRefused as error:
            log.warning("not a notification: %s", error.message)
            return _answer(400, error.code)
        if not await _passed_on(request.app.state.client, door, notice.objects):
            return _answer(503, "prefect.unavailable", {"Retry-After": "10"})
        log.info("%d announced, %d ignored", len(notice.objects), notice.ignored)
        return JSONResponse({"announced": len(notice.objects), "ignored": notice.ignored})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"service": "ims inbox"})

    routes = [Route(PATH, notify, methods=["POST"]), Route(HEALTH, health)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _body(request: Request) -> bytes:
    """The whole body. Raises _TooLarge, by what it claims to be before a byte is read, and by what arrives."""
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdecimal() or int(claimed) > MAX_BODY:
        raise _TooLarge
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY:
            raise _TooLarge
    return bytes(body)


async def _passed_on(client: httpx.AsyncClient, door: Door, objects: list[Announced]) -> bool:
    """Whether Prefect has taken the events of these objects."""
    if not objects:
        return True
    try:
        answer = await client.post(f"{door.prefect_api_url}/events", json=events_of(objects))
    except httpx.HTTPError as error:
        log.warning("Prefect does not answer: %s", type(error).__name__)
        return False
    if not answer.is_success:
        log.warning("Prefect answers %d", answer.status_code)
    return answer.is_success


def _answer(status: int, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code}}, status_code=status, headers=headers)


def config(settings: Settings) -> uvicorn.Config:
    """How the receiver is served: where settings say, with few connections and no access log."""
    host, _, port = settings.inbox_listen.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        shown = settings.inbox_listen[:80]
        raise RequestRefused("inbox_listen", f"{shown!r} is no address", remedy="Set IMS_INBOX_LISTEN to HOST:PORT.")
    return uvicorn.Config(
        make_app(Door.of(settings)),
        host=host.strip("[]") or "127.0.0.1",
        port=int(port),
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=16 << 10,
        lifespan="on",
    )


def serve(settings: Settings | None = None) -> None:
    """Serve until the process is ended. Raises RequestRefused for settings that cannot be served with."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.Server(config(settings or load_settings())).run()


if __name__ == "__main__":
    serve()
