"""A bucket on an S3 server (MinIO, SeaweedFS, any other) over the `minio` SDK: only calls that MinIO serves.

It repeats nothing itself; `open_bucket` puts `retrying.py` around it. Twin: `memory.py`. The verbs: `objects.py`.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError

from tasks.engine.blobs.objects import Missing, ObjectInfo, ObjectStore, checked_length, refused_bucket
from tasks.engine.blobs.retrying import PATIENCE_SECONDS, RetryingObjects
from tasks.engine.errors import ImsError, StateRefused, StoreUnavailable

CONNECT_SECONDS = 2.0
READ_SECONDS = 30.0
PART_SIZE = 16 << 20
MAX_PARTS = 10_000
PARALLEL_PARTS = 2
BODY_TYPE = "application/octet-stream"

CREDENTIAL_CODES = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"})
TRANSIENT_CODES = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "InternalError", "ServiceUnavailable", "RequestTimeout"}
)


@dataclass(frozen=True, slots=True)
class S3Address:
    """Where an S3 server is and who asks. `connections` is how many calls may be in flight at once.

    With `secure`, its certificate must be signed by an authority in `ca_file` (PEM), or by one of the system's without it.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    secure: bool = False
    region: str = "us-east-1"
    connections: int = 16
    ca_file: str | None = None


def connect(address: S3Address) -> Minio:
    """A client with its own pool. No connection is opened yet; the region is given so that none is asked for."""
    pool = urllib3.PoolManager(
        maxsize=address.connections,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=address.ca_file,
    )
    return Minio(
        address.endpoint,
        access_key=address.access_key,
        secret_key=address.secret_key,
        secure=address.secure,
        region=address.region,
        http_client=pool,
    )


def open_bucket(address: S3Address, bucket: str, *, patience: float = PATIENCE_SECONDS) -> ObjectStore:
    """The bucket as the service uses it: over S3, with bounded retries."""
    return RetryingObjects(S3Objects(connect(address), bucket=bucket), patience=patience)


class S3Objects:
    """An ObjectStore in one bucket of an S3 server. Safe to share between threads."""

    def __init__(self, client: Minio, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def ping(self) -> None:
        with self._failures():
            exists = self._client.bucket_exists(self._bucket)
        if not exists:
            raise refused_bucket(self._bucket)

    def create(self) -> None:
        with self._failures():
            if not self._client.bucket_exists(self._bucket):
                self._make()

    def put(self, key: str, body: bytes) -> None:
        with self._failures(key):
            self._client.put_object(self._bucket, key, BytesIO(body), len(body), content_type=BODY_TYPE)

    def get(self, key: str, *, limit: int) -> bytes:
        with self._failures(key):
            reply = self._client.get_object(self._bucket, key)
            try:
                checked_length(key, int(reply.headers.get("Content-Length", limit + 1)), limit=limit)
                return bytes(reply.read())
            finally:
                reply.close()
                reply.release_conn()

    def stat(self, key: str) -> int:
        with self._failures(key):
            return int(self._client.stat_object(self._bucket, key).size or 0)

    def delete(self, key: str) -> None:
        with self._failures(key):
            self._client.remove_object(self._bucket, key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        with self._failures():
            for found in self._client.list_objects(self._bucket, prefix=prefix, recursive=True, start_after=after or None):
                if found.object_name and found.last_modified:
                    etag = (found.etag or "").strip('"')
                    yield ObjectInfo(found.object_name, found.size or 0, found.last_modified, etag)

    def upload(self, key: str, source: Path) -> None:
        part_size = max(PART_SIZE, math.ceil(source.stat().st_size / MAX_PARTS))
        with self._failures(key):
            self._client.fput_object(self._bucket, key, str(source), part_size=part_size, num_parallel_uploads=PARALLEL_PARTS)

    def download(self, key: str, target: Path) -> None:
        with self._failures(key):
            self._client.fget_object(self._bucket, key, str(target))

    def presign(self, key: str, *, seconds: int) -> str:
        with self._failures(key):
            return self._client.presigned_get_object(self._bucket, key, expires=timedelta(seconds=seconds))

    def _make(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    @contextmanager
    def _failures(self, key: str = "") -> Iterator[None]:
        """Everything the SDK and its transport raise, as our own tree."""
        try:
            yield
        except S3Error as error:
            raise self._answered(error, key) from error
        except ServerError as error:
            raise _unavailable(f"the store answered {error.status_code}") from error
        except InvalidResponseError as error:
            raise _not_s3(error) from error
        except urllib3.exceptions.SSLError as error:
            raise _insecure(error) from error
        except (urllib3.exceptions.HTTPError, ParseError, ConnectionError, TimeoutError) as error:
            raise _unavailable(_short(error)) from error

    def _answered(self, error: S3Error, key: str) -> ImsError:
        """The store's own word: an S3 error code."""
        if error.code == "NoSuchKey":
            return Missing(key)
        if error.code == "NoSuchBucket":
            return refused_bucket(self._bucket)
        if error.code in CREDENTIAL_CODES:
            return StateRefused(
                "store",
                "credentials",
                f"the store refuses these credentials for bucket {self._bucket!r} ({error.code})",
                remedy="Check IMS_S3_ACCESS_KEY and IMS_S3_SECRET_KEY.",
            )
        if error.code in TRANSIENT_CODES or error.response.status >= 500:
            return _unavailable(f"the store answered {error.code}")
        return StateRefused("store", "request", f"the store refuses the call: {error.code}: {error.message}")


def _unavailable(what: str) -> StoreUnavailable:
    return StoreUnavailable(what, remedy="See `ims status`; the same command goes on where this one stopped.")


def _insecure(error: urllib3.exceptions.SSLError) -> ImsError:
    """A certificate that nobody here vouches for stays one; any other trouble of a TLS connection may pass."""
    if error.args and isinstance(error.args[0], (ssl.CertificateError, FileNotFoundError)):
        what = f"the store's certificate cannot be verified: {error.args[0]}"
        return StateRefused("store", "certificate", what, remedy="Check IMS_CA_FILE and the name in IMS_S3_ENDPOINT.")
    return _unavailable(_short(error))


def _not_s3(error: InvalidResponseError) -> ImsError:
    """An answer that is no S3 answer: a proxy's error page, or another kind of server."""
    if error._code >= 500:  # the SDK keeps the status here alone
        return _unavailable(f"the store answered {error._code}")
    return StateRefused("store", "endpoint", "the store's address answers, but not as S3", remedy="Check IMS_S3_ENDPOINT.")


def _short(error: Exception) -> str:
    """One line without the object addresses that urllib3 puts in front."""
    return f"the store cannot be reached: {str(error).rpartition('>: ')[2] or type(error).__name__}"
