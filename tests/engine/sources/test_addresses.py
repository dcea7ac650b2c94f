"""Which URLs may be fetched."""

from __future__ import annotations

import pytest

from tasks.engine.errors import SourceRefused, SourceUnavailable
from tasks.engine.sources.addresses import check_url


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://10.0.0.1/x",
        "http://192.168.1.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/x",
        "http://[::1]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[fd00::1]/x",
        "http://224.0.0.1/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://8.8.8.8:8333/x",
        "http://user:password@8.8.8.8/x",
        "ftp://8.8.8.8/x",
        "file:///etc/passwd",
        "http:///x",
        "http://8.8.8.8:99999/x",
        "gopher://8.8.8.8",
    ],
)
def test_check_url_refuses_what_is_not_public_http(url: str) -> None:
    with pytest.raises(SourceRefused) as caught:
        check_url(url)
    assert caught.value.code == "source.address"


def test_check_url_pins_the_address_and_keeps_the_name() -> None:
    target = check_url("https://8.8.8.8/a?b#c")
    assert (target.pinned_url, target.authority) == ("https://8.8.8.8:443/a?b", "8.8.8.8")


def test_check_url_allows_what_the_operator_named() -> None:
    target = check_url("http://localhost:8333/x", allow="other:1, localhost:8333")
    assert target.authority == "localhost:8333"


def test_check_url_of_an_unknown_name_is_worth_a_retry() -> None:
    with pytest.raises(SourceUnavailable):
        check_url("http://no-such-name.invalid/x")
