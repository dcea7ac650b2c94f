"""Where things are on this host and how to reach them; nothing is opened here (`tasks.resources` does that).

Order: environment variables IMS_*, then IMS_HOME/settings.env (written by `ims up`, mode 0600), then the defaults below.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    import ssl


def default_home() -> Path:
    """IMS_HOME, else a folder that QEMU's user can enter: /var/lib/ims for root, the user's data folder otherwise."""
    if home := os.environ.get("IMS_HOME"):
        return Path(home)
    if os.geteuid() == 0:
        return Path("/var/lib/ims")
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "ims"


class Settings(BaseSettings):
    """All settings; each is an environment variable IMS_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="IMS_", extra="ignore")

    home: Path = Field(default_factory=default_home)
    account: str = "admin"
    api_key: SecretStr | None = None
    database_url: str = ""

    s3_endpoint: str = "127.0.0.1:8333"
    s3_access_key: str = "ims"
    s3_secret_key: SecretStr = SecretStr("")
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    images_bucket: str = "ims-images"
    inbox_bucket: str = "ims-inbox"
    exports_bucket: str = "ims-exports"

    prefect_api_url: str = "http://127.0.0.1:4200/api"
    ca_file: Path | None = None
    """PEM file of the authorities that sign the certificates of S3 and Prefect; the system's where there is none."""
    prefect_auth: SecretStr | None = None
    """The user:password pair of the Prefect API, for the inbox's receiver; flows have it from their Prefect profile."""

    inbox_listen: str = "127.0.0.1:4210"
    """Where the receiver of bucket notifications listens."""
    inbox_token: SecretStr | None = None
    """What the store must show to the receiver."""

    host: str = Field(default_factory=lambda: os.uname().nodename)
    pool: str = ""
    """Work pool that this host's worker serves; the host's name where it is empty."""
    host_memory_mib: int = Field(default=0, ge=0)
    """What guests may have of this host's memory in all; 0: nine tenths of it."""
    libvirt_uri: str = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    cache_bytes: int = Field(default=8 << 30, ge=64 << 20)
    url_allow: str = ""
    """Comma-separated host:port pairs that URL sources may use although they are not public on 80 or 443."""

    log_format: Literal["text", "json"] = "text"
    """What `ims` and the host agent print of their work; IMS_HOME/logs/ims.jsonl is JSON always."""

    import_threads: int = Field(default=4, ge=1, le=64)
    max_disk_bytes: int = Field(default=1 << 40, ge=1 << 20)
    export_days: int = Field(default=7, ge=1, le=3650)
    """How long exported files stay in the exports bucket; their addresses end with them, or after a week."""
    history_days: int = Field(default=90, ge=0, le=36500)
    """How long scheduled runs that changed nothing are kept in the catalog; 0: for ever."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where `ims up` serves metrics on loopback; none: it does not."""
    osv_dump: Path | None = None
    """Known vulnerabilities in OSV's format: a folder or a zip; without one the publish gate does not look for any."""
    boot_timeout_seconds: int = Field(default=300, ge=10, le=3600)

    @cached_property
    def catalog_url(self) -> str:
        """SQLAlchemy address of the catalog: SQLite under IMS_HOME unless database_url names a server."""
        return self.database_url or f"sqlite:///{self.home / 'catalog.db'}"

    def tls(self) -> ssl.SSLContext:
        """Believes servers that `ca_file` or the system vouches for. Raises OSError where it cannot be read."""
        import ssl

        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def work_pool(self) -> str:
        """The work pool that this host's worker serves."""
        return self.pool or self.host

    @property
    def prefect_ui(self) -> str:
        """Where the Prefect UI is, which the API's server serves as well."""
        return self.prefect_api_url.removesuffix("/api")

    def run_url(self, flow_run_id: object) -> str:
        """Where a run is seen in the Prefect UI."""
        return f"{self.prefect_ui}/runs/flow-run/{flow_run_id}"

    @property
    def scratch(self) -> Path:
        """Private working files of running steps; each step makes and removes its own folder."""
        return self.home / "scratch"

    @property
    def cache(self) -> Path:
        """The host's content-addressed chunk cache."""
        return self.home / "cache"

    @property
    def ecs_folder(self) -> Path:
        """One folder per ECS: overlay, seed, console log, screenshots."""
        return self.home / "ecs"

    @property
    def exports_socket(self) -> Path:
        """Unix socket of this host's NBD server, which exports disks by manifest digest."""
        return self.home / "run" / "nbd.sock"


def load_settings() -> Settings:
    """Settings of this process, read anew at every call."""
    env_file = default_home() / "settings.env"
    return Settings(_env_file=env_file if os.access(env_file, os.R_OK) else None)
