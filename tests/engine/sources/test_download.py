"""Downloads against a real server: resume, change, limits, refusals."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from sites import Site

from tasks.engine.errors import HostUnavailable, SourceRefused, SourceUnavailable
from tasks.engine.sources.download import Room, download, fetch_start

BODY = random.Random(1).randbytes(3 << 20)


PLENTY = Room(allowed=1 << 30, free=1 << 30)


def fetch(site: Site, folder: Path, *, room: Room = PLENTY) -> bytes:
    return download(site.url(), folder / "source", allow=site.allow, room=room).read_bytes()


def test_download_gives_the_object(site: Site, tmp_path: Path) -> None:
    site.body = BODY
    assert fetch(site, tmp_path) == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_download_that_broke_off_sends_only_the_rest(site: Site, tmp_path: Path) -> None:
    site.body, site.break_after = BODY, 2 << 20
    with pytest.raises(SourceUnavailable, match="2097152"):
        fetch(site, tmp_path)
    site.break_after = None
    assert fetch(site, tmp_path) == BODY
    assert site.ranges == ["", "bytes=2097152-"]


def test_download_of_an_object_that_changed_starts_over(site: Site, tmp_path: Path) -> None:
    site.body, site.break_after = BODY, 2 << 20
    with pytest.raises(SourceUnavailable):
        fetch(site, tmp_path)
    site.body, site.break_after, site.etag = BODY[::-1], None, '"two"'
    assert fetch(site, tmp_path) == BODY[::-1]


def test_download_whose_object_shrank_to_what_is_there_starts_over(site: Site, tmp_path: Path) -> None:
    site.body, site.break_after = BODY, 2 << 20
    with pytest.raises(SourceUnavailable):
        fetch(site, tmp_path)
    site.body, site.break_after = BODY[: 2 << 20], None
    with pytest.raises(SourceUnavailable, match="changed"):
        fetch(site, tmp_path)
    assert fetch(site, tmp_path) == site.body


def test_download_over_the_limit_is_refused(site: Site, tmp_path: Path) -> None:
    site.body = BODY
    with pytest.raises(SourceRefused) as caught:
        fetch(site, tmp_path, room=Room(allowed=1 << 20, free=1 << 30))
    assert caught.value.code == "source.too_large"


def test_download_without_space_is_worth_a_retry_and_resumes(site: Site, tmp_path: Path) -> None:
    site.body, site.break_after = BODY, 2 << 20
    with pytest.raises(SourceUnavailable):
        fetch(site, tmp_path)
    site.break_after = None
    with pytest.raises(HostUnavailable) as caught:
        fetch(site, tmp_path, room=Room(allowed=1 << 30, free=1 << 19))
    assert caught.value.code == "host.disk_full"
    assert fetch(site, tmp_path) == BODY
    assert site.ranges[-1] == "bytes=2097152-"


@pytest.mark.parametrize(("status", "error"), [(404, SourceRefused), (403, SourceRefused), (503, SourceUnavailable)])
def test_download_that_the_server_denies_says_whether_to_retry(
    site: Site, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    site.status = status
    with pytest.raises(error, match=str(status)):
        fetch(site, tmp_path)


def test_download_checks_where_a_redirect_leads(site: Site, tmp_path: Path) -> None:
    site.status, site.location = 302, "http://169.254.169.254/latest/meta-data"
    with pytest.raises(SourceRefused) as caught:
        fetch(site, tmp_path)
    assert caught.value.code == "source.address"
    assert len(site.ranges) == 1


def test_download_ends_an_endless_redirect(site: Site, tmp_path: Path) -> None:
    site.status, site.location = 302, "/again"
    with pytest.raises(SourceRefused, match="redirects"):
        fetch(site, tmp_path)


def test_download_from_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        download("http://127.0.0.1:9/x", tmp_path / "s", allow="127.0.0.1:9", room=PLENTY)


def test_download_of_one_version_takes_no_other(site: Site, tmp_path: Path) -> None:
    site.body = BODY
    ask = {"allow": site.allow, "etag": "one"}
    assert download(site.url(), tmp_path / "a", room=PLENTY, **ask).read_bytes() == BODY
    assert fetch_start(site.url(), 4, **ask)[0] == BODY[:4]
    site.etag = '"two"'
    for again in (lambda: download(site.url(), tmp_path / "b", room=PLENTY, **ask), lambda: fetch_start(site.url(), 4, **ask)):
        with pytest.raises(SourceRefused) as refused:
            again()
        assert refused.value.code == "source.changed"
    assert not (tmp_path / "b").exists()


def test_download_that_broke_off_and_changed_is_refused_where_one_version_is_asked_for(site: Site, tmp_path: Path) -> None:
    site.body, site.break_after = BODY, 2 << 20
    ask = {"allow": site.allow, "etag": "one"}
    with pytest.raises(SourceUnavailable):
        download(site.url(), tmp_path / "a", room=PLENTY, **ask)
    site.body, site.break_after, site.etag = BODY[::-1], None, '"two"'
    with pytest.raises(SourceRefused):
        download(site.url(), tmp_path / "a", room=PLENTY, **ask)
