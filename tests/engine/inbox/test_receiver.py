"""The receiver over real HTTP. What it passes on goes to a small server; with Prefect: tests/flows/test_inbox.py."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import uvicorn
from notices import notification, record

from tasks.engine.errors import RequestRefused
from tasks.engine.inbox.receiver import MAX_BODY, config
from tasks.engine.settings import Settings

pytestmark = pytest.mark.server
TOKEN = "t0ken-of-the-store"
ONE = notification(record("alice/disk.raw"))


@dataclass
class Events:
    """Takes events as Prefect's API does, or answers as it is told."""

    taken: list[dict[str, Any]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    status: int = 204


@contextmanager
def event_server(events: Events) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events.logins.append(self.headers.get("Authorization", ""))
            if events.status == 204:
                events.taken += json.loads(body)
            self.send_response(events.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def events() -> Events:
    return Events()


@contextmanager
def receiver(api: str) -> Iterator[str]:
    """Runs in a thread and passes events on to this API; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        settings = Settings(inbox_token=TOKEN, prefect_auth="admin:pw", prefect_api_url=api, inbox_listen=f"127.0.0.1:{port}")
        server = uvicorn.Server(config(settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(events: Events) -> Iterator[str]:
    with event_server(events) as api, receiver(api) as address:
        yield address


@pytest.fixture(autouse=True)
def _fresh(events: Events) -> None:
    events.taken.clear()
    events.status = 204


def post(url: str, *, token: str | None = TOKEN, **values: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    values = values or {"json": ONE}
    return httpx.post(f"{url}/notify", headers={**headers, **values.pop("headers", {})}, **values, timeout=30)


def test_notification_becomes_an_event_before_the_answer(url: str, events: Events) -> None:
    answer = post(url)
    assert (answer.status_code, answer.json()) == (200, {"announced": 1, "ignored": 0})
    assert [event["payload"]["key"] for event in events.taken] == ["disk.raw"]
    assert events.logins[-1].startswith("Basic ")


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", TOKEN[:-1], "ü".encode().decode("latin-1")])
def test_without_the_token_nothing_passes(url: str, events: Events, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".strip().encode("latin-1")}
    answer = httpx.post(f"{url}/notify", headers=headers, json=ONE)
    assert (answer.status_code, events.taken) == (401, [])


def test_token_of_another_scheme_does_not_count(url: str) -> None:
    assert httpx.post(f"{url}/notify", headers={"Authorization": f"Basic {TOKEN}"}, json=ONE).status_code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Records": 1}'])
def test_what_is_no_notification_is_answered_400(url: str, events: Events, body: bytes) -> None:
    assert (post(url, content=body).status_code, events.taken) == (400, [])


def test_large_body_is_answered_413_by_its_claim_and_by_its_length(url: str) -> None:
    assert post(url, content=b" " * (MAX_BODY + 1)).status_code == 413
    assert post(url, content=iter([b" " * MAX_BODY, b" "])).status_code == 413


@pytest.mark.parametrize("status", [401, 422, 500, 503])
def test_event_that_prefect_did_not_take_is_answered_503(url: str, events: Events, status: int) -> None:
    events.status = status
    answer = post(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


def test_prefect_that_is_away_is_answered_503() -> None:
    with receiver("http://127.0.0.1:9/api") as url:
        assert post(url).status_code == 503


def test_nothing_to_announce_is_taken_without_prefect(url: str, events: Events) -> None:
    events.status = 500
    assert post(url, json=notification(record("alice/x.json"))).json() == {"announced": 0, "ignored": 1}


def test_health_asks_for_nothing_and_other_paths_are_none(url: str) -> None:
    assert httpx.get(f"{url}/health").status_code == 200
    assert httpx.get(f"{url}/notify").status_code == 405
    assert httpx.get(f"{url}/docs").status_code == 404


def test_log_has_no_secret_and_no_name(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="ims.inbox"):
        post(url)
        post(url, token="wrong")
        post(url, content=b'{"Records": "' + TOKEN.encode() + b'"}')
    assert "1 announced" in caplog.text
    assert TOKEN not in caplog.text
    assert "disk.raw" not in caplog.text


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, "request.inbox_token"),
        ({"inbox_token": ""}, "request.inbox_token"),
        ({"inbox_token": TOKEN, "inbox_listen": "nowhere"}, "request.inbox_listen"),
        ({"inbox_token": TOKEN, "inbox_listen": "127.0.0.1:0"}, "request.inbox_listen"),
    ],
)
def test_settings_that_cannot_be_served_with_are_refused(values: dict[str, Any], code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        config(Settings(**values))
    assert refused.value.code == code
