"""Bad input: one clear error with its code and exit code, nothing left behind, and the same image when the cause is gone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from commands import Service

from tasks.resources import catalog

pytestmark = pytest.mark.server
MakeDisk = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_left_behind(service: Service) -> Iterator[None]:
    """No refusal leaves a working file."""
    yield
    assert not list((service.home / "scratch").iterdir())


def names(service: Service, state: str) -> list[str]:
    return [image["name"] for image in service.ims("image", "list", "--all")["images"] if image["state"] == state]


def test_missing_file_is_refused(service: Service) -> None:
    assert service.refused("image", "import", "/no/such/disk", "--name", "missing") == "source.missing"
    assert "missing" not in names(service, "error")


@pytest.mark.parametrize("extra", [(), ("--detach",)])
def test_prefect_server_that_goes_away_after_the_first_look_is_unavailable(service: Service, extra: tuple[str, ...]) -> None:
    arguments = ("image", "import", "/no/such/disk", "--name", "away", *extra)
    with healthy_alone() as url:
        settings = {"IMS_PREFECT_API_URL": url, "PREFECT_API_URL": url, "PREFECT_CLIENT_MAX_RETRIES": "0"}
        outcome = service.run_process(*arguments, **settings)
    assert (outcome.status, outcome.code) == (3, "prefect.unavailable"), outcome.words


@contextmanager
def healthy_alone() -> Iterator[str]:
    """The address of a Prefect server that answers whether it is healthy, and hangs up on whoever asks anything else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/health"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"true")
            self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()


@pytest.mark.parametrize("name", ["", " x", "x ", "a" * 129, "a/b", "a\nb", "<b>"])
def test_bad_name_is_refused(service: Service, data_disk: MakeDisk, name: str) -> None:
    assert service.refused("image", "import", str(data_disk(20)), "--name", name) == "request.name"


def test_wrong_checksum_is_refused_and_the_same_image_succeeds_with_the_right_one(
    service: Service, data_disk: MakeDisk
) -> None:
    raw = data_disk(21)
    arguments = ["image", "import", str(raw), "--name", "summed", "--format", "raw", "--checksum"]
    assert service.refused(*arguments, "sha256:" + "0" * 64) == "source.checksum"
    failed = next(image for image in service.ims("image", "list")["images"] if image["name"] == "summed")
    assert (failed["state"], failed["error_code"]) == ("error", "source.checksum")
    image = service.ims(*arguments, f"sha256:{hashlib.sha256(raw.read_bytes()).hexdigest()}")
    assert (image["id"], image["state"], image["error_code"]) == (failed["id"], "active", None)


def test_wrong_declared_format_is_refused_before_an_image_is_made(service: Service, data_disk: MakeDisk) -> None:
    source = str(service.convert(data_disk(22), "qcow2"))
    assert service.refused("image", "import", source, "--name", "declared", "--format", "vmdk") == "disk.format_mismatch"
    assert "declared" not in names(service, "error")


def test_image_with_a_backing_file_is_refused_and_its_target_never_read(service: Service, folder: Path) -> None:
    secret = folder / "secret"
    secret.write_bytes(b"s" * 65536)
    evil = folder / "evil.qcow2"
    os.system(f"qemu-img create -q -f qcow2 -b {secret} -F raw {evil} 1M")
    accessed = secret.stat().st_atime_ns
    assert service.refused("image", "import", str(evil), "--name", "evil") == "disk.backing_file"
    assert secret.stat().st_atime_ns == accessed


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("inbox:../bob/secret", "request.inbox_key"),
        ("inbox:/x", "request.inbox_key"),
        ("inbox:absent", "source.missing"),
        ("http://127.0.0.1:1/x", "source.address"),
        ("http://169.254.169.254/x", "source.address"),
        ("file:///etc/passwd", "source.missing"),
        ("/etc", "source.not_a_file"),
        ("/dev/null", "source.not_a_file"),
    ],
)
def test_source_that_may_not_be_used_is_refused(service: Service, source: str, code: str) -> None:
    assert service.refused("image", "import", source, "--name", "nowhere") == code


def test_quota_is_exact_and_frees_itself(service: Service, data_disk: MakeDisk) -> None:
    key = service.ims("account", "create", "quota-user")["api_key"]
    who = {"IMS_ACCOUNT": "quota-user", "IMS_API_KEY": key}
    with catalog(write=True) as session:
        from models.accounts import get_account

        get_account(session, name="quota-user").max_images = 1
    raw = str(data_disk(23))
    first = service.ims("image", "import", raw, "--name", "one", **who)
    assert service.refused("image", "import", raw, "--name", "two", **who) == "quota.images"
    service.ims("image", "delete", first["id"], **who)
    assert service.ims("image", "import", raw, "--name", "two", **who)["state"] == "active"


def test_unknown_and_foreign_ids_are_the_same_answer(service: Service, data_disk: MakeDisk) -> None:
    mine = service.ims("image", "import", str(data_disk(24)), "--name", "mine")["id"]
    key = service.ims("account", "create", "stranger")["api_key"]
    who = {"IMS_ACCOUNT": "stranger", "IMS_API_KEY": key}
    commands = [
        ("image", "show"),
        ("image", "delete"),
        ("image", "protect"),
        ("image", "deactivate"),
        ("image", "export", "--format", "raw", "--to", "/tmp/x"),
        ("ecs", "launch", "--name", "x"),
    ]
    for command in commands:
        answers = set()
        for image in (mine, "00000000-0000-4000-8000-000000000000"):
            outcome = service.run(*command, image, **who)
            answers.add((outcome.status, outcome.code, outcome.answer["error"]["message"].replace(image, "ID")))
        assert {answer[:2] for answer in answers} == {(2, "image.not_found")}
        assert len(answers) == 1


def test_wrong_key_proves_nothing(service: Service) -> None:
    assert service.refused("image", "list", IMS_ACCOUNT="admin", IMS_API_KEY="ims_wrong") == "account.key"


def test_unreachable_store_is_unavailable_and_leaves_no_image(service: Service, data_disk: MakeDisk) -> None:
    arguments = ["image", "import", str(data_disk(25)), "--name", "storeless"]
    assert service.refused(*arguments, status=3, IMS_S3_ENDPOINT="127.0.0.1:9") == "store.unavailable"
    assert "storeless" not in names(service, "error")
    assert service.ims(*arguments)["state"] == "active"


def test_unreachable_prefect_server_is_unavailable(service: Service, data_disk: MakeDisk) -> None:
    arguments = ["image", "import", str(data_disk(26)), "--name", "serverless"]
    assert service.refused(*arguments, status=3, PREFECT_API_URL="http://127.0.0.1:9/api") == "prefect.unavailable"


def test_unreachable_catalog_is_unavailable(service: Service) -> None:
    where = "postgresql://127.0.0.1:9/none"
    assert service.refused("image", "list", status=3, IMS_DATABASE_URL=where) == "catalog.unavailable"


def test_protected_image_is_not_deleted(service: Service, data_disk: MakeDisk) -> None:
    image = service.ims("image", "import", str(data_disk(27)), "--name", "kept")["id"]
    service.ims("image", "protect", image)
    assert service.refused("image", "delete", image) == "image.protected"
    service.ims("image", "unprotect", image)
    assert service.ims("image", "delete", image)["state"] == "deleted"
    assert service.refused("image", "show", image) == "image.not_found"


def test_data_disk_does_not_launch(service: Service, data_disk: MakeDisk) -> None:
    image = service.ims("image", "import", str(data_disk(28)), "--name", "no-system")["id"]
    before = service.ims("ecs", "list")["ecs"]
    assert service.refused("ecs", "launch", image, "--name", "x") == "request.image"
    assert service.ims("ecs", "list")["ecs"] == before


def test_check_reads_headers_only(service: Service, data_disk: MakeDisk, folder: Path) -> None:
    source = service.convert(data_disk(29), "qcow2")
    assert service.ims("image", "check", str(source))["format"] == "qcow2"
    outcome = service.run("image", "check", str(source), "--format", "vhd")
    assert (outcome.status, outcome.answer["verdict"], outcome.answer["code"]) == (2, "refused", "disk.format_mismatch")


def test_audit_tells_who_did_what(service: Service, data_disk: MakeDisk) -> None:
    image = service.ims("image", "import", str(data_disk(30)), "--name", "audited")["id"]
    service.ims("image", "delete", image)
    rows = service.ims("audit", "list", "--subject", image)["audit"]
    states = [row["new"] for row in reversed(rows)]
    assert states == ["queued", "transferring", "verifying", "active", "deleted"]
    assert all(row["who"] == "admin" and row["operation_id"] for row in rows), json.dumps(rows)
