"""The folders of IMS_HOME and settings.env: who may read what, and what survives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.embedded import environment, layout
from deployments.embedded import site as sites
from tasks.engine.errors import RequestRefused
from tasks.engine.settings import load_settings


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_make_folders_lets_others_through_but_not_in(home: Path) -> None:
    layout.make_folders(home)
    assert {name: mode(home / name) for name in layout.MODES} == layout.MODES
    assert all(mode(home / name) & 0o066 == 0 for name in layout.MODES)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's QEMU runs as another user")
def test_make_folders_under_a_closed_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir(mode=0o700)
    with pytest.raises(RequestRefused, match="chmod o\\+x"):
        layout.make_folders(tmp_path / "c" / "h")


def test_make_folders_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="too long"):
        layout.make_folders(tmp_path / ("x" * layout.LONGEST_HOME))


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
def test_make_folders_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(RequestRefused, match="belongs to another user"):
        layout.make_folders(tmp_path)


def test_remember_keeps_foreign_lines_and_is_private(tmp_path: Path) -> None:
    (tmp_path / environment.NAME).write_text("# mine\nIMS_HOST=h1\nIMS_S3_ENDPOINT=old:1\n")
    environment.remember(tmp_path, {"IMS_S3_ENDPOINT": "new:2"})
    assert (tmp_path / environment.NAME).read_text() == "# mine\nIMS_HOST=h1\nIMS_S3_ENDPOINT=new:2\n"
    assert mode(tmp_path / environment.NAME) == 0o600


def test_remembered_secret_is_made_once(tmp_path: Path) -> None:
    first = environment.remembered_secret(tmp_path, "IMS_SECRET")
    assert len(first) >= 32
    assert environment.remembered_secret(tmp_path, "IMS_SECRET") == first


def test_write_secret_over_a_readable_file_closes_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    (tmp_path / "key").chmod(0o644)
    layout.write_secret(tmp_path / "key", "new")
    assert mode(tmp_path / "key") == 0o600


def test_choose_twice_gives_the_same_site(home: Path) -> None:
    layout.make_folders(home)
    first = sites.choose(load_settings())
    assert first.embeds_s3
    assert first.embeds_prefect
    assert sites.choose(load_settings()) == first
    assert sites.look_up(load_settings()) == first


def test_choose_writes_only_private_files(home: Path) -> None:
    layout.make_folders(home)
    site = sites.choose(load_settings())
    secret = site.settings.s3_secret_key.get_secret_value()
    assert len(secret) >= 32
    holders = [path for path in home.rglob("*") if path.is_file() and mode(path) != 0o600]
    assert holders == []


@pytest.mark.parametrize("where", ["environment", "settings.env"])
def test_look_up_with_a_store_of_the_users_own_embeds_none(where: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.make_folders(home)
    sites.choose(load_settings())
    if where == "environment":
        monkeypatch.setenv("IMS_S3_ENDPOINT", "minio.example:9000")
    else:
        environment.remember(home, {"IMS_S3_ENDPOINT": "minio.example:9000"})
    site = sites.look_up(load_settings())
    assert not site.embeds_s3
    assert site.settings.s3_endpoint == "minio.example:9000"
    environment.remember(home, {"IMS_S3_ENDPOINT": environment.read(home)["IMS_EMBEDDED_S3_ENDPOINT"]})


def test_choose_makes_a_token_for_the_receiver_and_a_port_of_loopback(home: Path) -> None:
    layout.make_folders(home)
    settings = sites.choose(load_settings()).settings
    assert settings.inbox_listen.startswith("127.0.0.1:")
    assert settings.inbox_token is not None
    assert len(settings.inbox_token.get_secret_value()) >= 32
    assert environment.read(home)["IMS_INBOX_TOKEN"] == settings.inbox_token.get_secret_value()


@pytest.mark.parametrize("where", ["environment", "settings.env"])
def test_choose_leaves_an_address_of_the_receiver_that_the_user_set(
    where: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.make_folders(home)
    before = sites.choose(load_settings()).settings.inbox_listen
    if where == "environment":
        monkeypatch.setenv("IMS_INBOX_LISTEN", "192.0.2.1:4210")
    else:
        environment.remember(home, {"IMS_INBOX_LISTEN": "192.0.2.1:4210"})
    assert sites.choose(load_settings()).settings.inbox_listen == "192.0.2.1:4210"
    environment.remember(home, {"IMS_INBOX_LISTEN": before})
