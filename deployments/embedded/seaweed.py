"""The embedded S3 store of a single host: SeaweedFS in one process. With IMS_S3_ENDPOINT set, another store is used instead.

Guests with user networking can reach the host's loopback, so only the S3 port may serve anybody: the inner HTTP interfaces are
off, volume reads want a signed token, and the inner gRPC wants a client certificate that is made anew at every start.
"""

from __future__ import annotations

import secrets
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path

from deployments.embedded import ports, probes
from deployments.embedded.services import Service
from deployments.embedded.site import Site
from tasks.engine.errors import HostUnavailable

INNER = ("admin", "filer", "master", "s3", "volume")
TOKENS = ("JWT_SIGNING_KEY", "JWT_SIGNING_READ_KEY", "JWT_FILER_SIGNING_KEY", "JWT_FILER_SIGNING_READ_KEY")
COMPONENTS = ("admin", "client", "filer", "master", "s3", "volume", "worker")
COLLECTOR = {"GOGC": "1000", "GOMEMLIMIT": "512MiB"}
"""Go's garbage collector, told to run less often: an eighth of the store's processor time, for memory up to the limit."""


def service(site: Site, inner: dict[str, int]) -> Service:
    """The store on the port of `s3_endpoint`; `inner` are its other ports by component."""
    data = site.home / "s3"
    return Service(
        name="s3",
        command=(
            str(Path(sysconfig.get_path("scripts")) / "weed"),
            "-logtostderr=true",
            f"-config_dir={data}",
            "mini",
            *_flags(site, inner),
        ),
        address=f"http://{site.settings.s3_endpoint}",
        ready=lambda _since: probes.http_status(f"http://{site.settings.s3_endpoint}/healthz") == 200,
        secrets=_secrets(site),
        stop_seconds=20,
    )


def prepare(site: Site) -> dict[str, int]:
    """Choose the inner ports and make the certificate. Only while the store is not running."""
    folder = site.home / "s3"
    (folder / "mini.options").unlink(missing_ok=True)  # it would bring back ports of an earlier start
    _make_certificate(folder)
    return ports.internal_ports(INNER, remembered=folder / "ports.json")


def remove_sockets(home: Path) -> None:
    """Remove what the store leaves under /tmp, whatever its flags say. They are 0600, and want the certificate too."""
    for port in ports.read_remembered(home / "s3" / "ports.json").values():
        for number in (port, port + 10000):
            for socket in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # noqa: S108  # the store's own choice
                with suppress(PermissionError):
                    socket.unlink(missing_ok=True)


def known_ports(site: Site) -> dict[str, int]:
    """The inner ports of the last start; zeros before the first one."""
    return ports.read_remembered(site.home / "s3" / "ports.json") or dict.fromkeys(INNER, 0)


def _flags(site: Site, inner: dict[str, int]) -> tuple[str, ...]:
    data = site.home / "s3"
    port = site.settings.s3_endpoint.rpartition(":")[2]
    served = {name: inner[name] for name in INNER if name != "s3"}
    return (
        f"-ip={ports.LOOPBACK}",
        f"-ip.bind={ports.LOOPBACK}",
        f"-metricsIp={ports.LOOPBACK}",
        f"-dir={data}",
        f"-s3.port={port}",
        f"-s3.port.grpc={inner['s3']}",
        *(f"-{name}.port={number}" for name, number in served.items()),
        *(f"-{name}.port.grpc={number + 10000}" for name, number in served.items()),
        f"-filer.localSocket={data / 'filer.sock'}",
        f"-s3.localSocket={data / 's3.sock'}",
        "-disableHttp",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-volume.max=0",  # as many volumes as the disk holds
    )


def _secrets(site: Site) -> dict[str, str]:
    """In the environment: arguments are public. The keys of the inner tokens need not outlive the process."""
    settings = site.settings
    certificate, key = _certificate_files(site.home / "s3")
    inner = {f"WEED_{name}": secrets.token_hex(16) for name in TOKENS}
    grpc = {f"WEED_GRPC_{name.upper()}_CERT": str(certificate) for name in COMPONENTS}
    grpc |= {f"WEED_GRPC_{name.upper()}_KEY": str(key) for name in COMPONENTS}
    return {
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key.get_secret_value(),
        "WEED_GRPC_CA": str(certificate),
        **COLLECTOR,
        **inner,
        **grpc,
    }


def _certificate_files(folder: Path) -> tuple[Path, Path]:
    return folder / "grpc.crt", folder / "grpc.key"


def _make_certificate(folder: Path) -> None:
    certificate, key = _certificate_files(folder)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"]
    command += ["-subj", "/CN=ims", "-addext", f"subjectAltName=IP:{ports.LOOPBACK}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30, umask=0o077)
    except (OSError, subprocess.SubprocessError) as error:
        raise HostUnavailable("openssl", f"no certificate for the store: {error}", remedy="Run `make setup`.") from error
