"""A text over HTTP: who gets it, how often it is made, and what a failure looks like."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.engine.errors import CatalogUnavailable, HostUnavailable
from tasks.engine.scraping import ASKERS, Kept, ScrapeServer, token_in

TOKEN = "t0ken"


@contextmanager
def serving(produce: Callable[[], bytes], *, every: float = 60) -> Iterator[ScrapeServer]:
    with ScrapeServer(Kept(produce, every=every), port=0, token=TOKEN) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def get(url: str, *, authorization: str | None = f"Bearer {TOKEN}") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_who_has_the_token_gets_the_text() -> None:
    with serving(lambda: b"ims_images 1\n") as server:
        assert get(server.url) == (200, b"ims_images 1\n")
        assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"bearer {TOKEN}x"])
def test_who_has_none_makes_no_work(authorization: str | None) -> None:
    made: list[int] = []
    with serving(lambda: made.append(1) or b"secret") as server:
        status, body = get(server.url, authorization=authorization)
    assert (status, b"secret" in body, made) == (401, False, [])


def test_other_paths_are_not_found() -> None:
    with serving(lambda: b"secret") as server:
        assert get(server.url.replace("/metrics", "/"))[0] == 404


def test_many_askers_make_one_text() -> None:
    made: list[int] = []
    with serving(lambda: made.append(1) or b"text") as server, ThreadPoolExecutor(4 * ASKERS) as pool:
        answers = set(pool.map(lambda _: get(server.url), range(8 * ASKERS)))
    assert (answers, len(made)) == ({(200, b"text")}, 1)


def test_text_that_is_old_is_made_anew() -> None:
    made: list[int] = []
    with serving(lambda: made.append(1) or b"text", every=0) as server:
        get(server.url)
        get(server.url)
    assert len(made) == 2


def test_text_that_took_long_is_kept_for_longer() -> None:
    now = [0.0]

    def produce() -> bytes:
        now[0] += 2
        return b"text"

    kept = Kept(produce, every=10, clock=lambda: now[0])
    kept.text()
    now[0] += 39
    kept.text()
    assert now[0] == 41
    now[0] += 1
    kept.text()
    assert now[0] == 44


def test_failure_is_said_and_not_kept() -> None:
    failures = [CatalogUnavailable("locked")]

    def produce() -> bytes:
        if failures:
            raise failures.pop()
        return b"text"

    with serving(produce) as server:
        assert get(server.url) == (503, b"catalog.unavailable: locked\n")
        assert get(server.url) == (200, b"text")


def test_port_that_is_taken_is_refused_by_name() -> None:
    with serving(lambda: b"") as server, pytest.raises(HostUnavailable) as refused:
        ScrapeServer(Kept(lambda: b""), port=server.server_port, token=TOKEN)
    assert refused.value.code == "host.port"


def test_token_is_one_for_all_and_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: token_in(tmp_path), range(16)))
    assert len(tokens) == 1
    assert len(tokens.pop()) > 40
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("metrics.token", 0o600)]


def test_home_without_a_token_that_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostUnavailable):
        token_in(tmp_path / "absent")
    (tmp_path / "metrics.token").touch()
    with pytest.raises(HostUnavailable):
        token_in(tmp_path)
