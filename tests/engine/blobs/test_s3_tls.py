"""S3 over TLS: the authority in `ca_file` alone decides who is believed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from s3_servers import S3Server, running_s3

from deployments import __file__ as deployments
from tasks.engine.blobs.s3 import S3Address, open_bucket
from tasks.engine.errors import StateRefused, StoreUnavailable

pytestmark = pytest.mark.server
SECRETS = Path(deployments).parent / "stack/make-secrets.sh"


def authority(folder: Path) -> Path:
    """Certificates for 127.0.0.1, made as the production stack's are."""
    folder.mkdir()
    subprocess.run([SECRETS, "127.0.0.1", folder], check=True)
    return folder / "secrets"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority(tmp_path_factory.mktemp("tls") / "own")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, secrets: Path) -> Iterator[S3Server]:
    options = [f"-s3.cert.file={secrets}/s3.crt", f"-s3.key.file={secrets}/s3.key"]
    with running_s3(tmp_path_factory.mktemp("s3-tls"), *options, ca_file=secrets / "ca.crt") as running:
        yield running


def refusal(address: S3Address) -> StateRefused:
    with pytest.raises(StateRefused) as caught:
        open_bucket(address, "started").get("key", limit=1)
    assert caught.value.code == "store.certificate"
    return caught.value


def test_store_signed_by_the_given_authority_is_used(server: S3Server) -> None:
    bucket = open_bucket(server.address, "started")
    bucket.put("key", b"body")
    assert bucket.get("key", limit=4) == b"body"


def test_store_signed_by_another_authority_is_refused_at_once(server: S3Server, tmp_path: Path) -> None:
    other = authority(tmp_path / "other") / "ca.crt"
    assert "IMS_CA_FILE" in str(refusal(replace(server.address, ca_file=str(other))))


def test_store_that_only_the_system_could_vouch_for_is_refused(server: S3Server) -> None:
    refusal(replace(server.address, ca_file=None))


def test_store_under_a_name_that_its_certificate_lacks_is_refused(server: S3Server) -> None:
    port = server.address.endpoint.rpartition(":")[2]
    assert "localhost" in refusal(replace(server.address, endpoint=f"localhost:{port}")).message


def test_authority_that_is_not_there_is_refused(server: S3Server, tmp_path: Path) -> None:
    refusal(replace(server.address, ca_file=str(tmp_path / "none.crt")))


def test_store_without_tls_is_not_called_a_bad_certificate(s3_server: S3Server, secrets: Path) -> None:
    plain = replace(s3_server.address, secure=True, ca_file=str(secrets / "ca.crt"))
    with pytest.raises(StoreUnavailable):
        open_bucket(plain, "started", patience=0).get("key", limit=1)
