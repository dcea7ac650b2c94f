"""What is true of one IMS_HOME: its settings as every started process will read them, and which services it embeds.

A service whose address the user set (IMS_S3_ENDPOINT, IMS_PREFECT_API_URL; in the environment or settings.env) is somebody
else's: it is used, never started. IMS_EMBEDDED_* in settings.env tell such an address from one that was chosen here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from deployments.embedded import environment, ports
from deployments.embedded.layout import write_secret
from deployments.embedded.processes import is_alive
from deployments.embedded.services import read_record
from tasks.engine.settings import Settings

S3_ADDRESS = "IMS_S3_ENDPOINT"
PREFECT_ADDRESS = "IMS_PREFECT_API_URL"
S3_PORT = "IMS_S3_PORT"
PREFECT_PORT = "IMS_PREFECT_PORT"
LOGIN = "IMS_PREFECT_AUTH"
PASSED_ON = (
    *("host", "pool", "host_memory_mib", "libvirt_uri", "accelerator", "cache_bytes", "database_url", "url_allow"),
    *("boot_timeout_seconds", "s3_secure", "s3_region", "ca_file", "export_days", "history_days", "log_format"),
)
INBOX_LISTEN = "IMS_INBOX_LISTEN"
INBOX_TOKEN = "IMS_INBOX_TOKEN"  # noqa: S105  # a name, not a secret
INBOX_PORT = "IMS_INBOX_PORT"
USUAL_INBOX = 4210
HEARTBEAT_SECONDS = 30
"""How often a run says that it lives, wherever it runs: an automation counts on it. Prefect allows no less."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """`login` is the user:password pair of the Prefect API, empty where the server asks for none."""

    settings: Settings
    login: str
    embeds_s3: bool
    embeds_prefect: bool

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def prefect_home(self) -> Path:
        return self.home / "prefect"

    @property
    def login_file(self) -> Path:
        return self.home / "prefect.login"

    @property
    def ui_url(self) -> str:
        return self.settings.prefect_ui

    @property
    def environment(self) -> dict[str, str]:
        """What worker, agent and registration must be restarted for when it changes. No secrets: those are in settings.env."""
        values = {f"IMS_{name.upper()}": str(getattr(self.settings, name)) for name in self._passed_on()}
        return values | {
            "IMS_HOME": str(self.home),
            S3_ADDRESS: self.settings.s3_endpoint,
            PREFECT_ADDRESS: self.settings.prefect_api_url,
            "PREFECT_HOME": str(self.prefect_home),
            "PREFECT_PROFILE": "ims",
        }

    def _passed_on(self) -> list[str]:
        return [name for name in PASSED_ON if name in self.settings.model_fields_set]


def look_up(settings: Settings) -> Site:
    """The site as it was last started; nothing is chosen or written."""
    known = environment.read(settings.home)
    return _site(settings, known)


def choose(settings: Settings) -> Site:
    """The site as it is to be started: ports that are free or already ours, credentials, all written to settings.env (0600)."""
    home = settings.home
    present = look_up(settings)
    values = _choose_inbox(home, present)
    if present.embeds_s3:
        values |= _choose_s3(home, present)
    if present.embeds_prefect:
        values |= _choose_prefect(home, present)
    addresses = {name: value for name, value in values.items() if name in (S3_ADDRESS, PREFECT_ADDRESS)}
    environment.remember(home, values | {_chosen(name): address for name, address in addresses.items()})
    site = look_up(settings)
    _write_prefect_profile(site)
    return site


def _choose_s3(home: Path, present: Site) -> dict[str, str]:
    remembered = int(present.settings.s3_endpoint.rpartition(":")[2])
    port = _port(home, "s3", setting=S3_PORT, remembered=remembered, usual=8333)
    return {
        S3_ADDRESS: f"{ports.LOOPBACK}:{port}",
        "IMS_S3_ACCESS_KEY": present.settings.s3_access_key,
        "IMS_S3_SECRET_KEY": environment.remembered_secret(home, "IMS_S3_SECRET_KEY"),
    }


def _choose_prefect(home: Path, present: Site) -> dict[str, str]:
    remembered = urlsplit(present.settings.prefect_api_url).port or 4200
    port = _port(home, "prefect", setting=PREFECT_PORT, remembered=remembered, usual=4200)
    login = present.login or f"admin:{environment.remembered_secret(home, LOGIN)}"
    return {PREFECT_ADDRESS: f"http://{ports.LOOPBACK}:{port}/api", LOGIN: login}


def _choose_inbox(home: Path, present: Site) -> dict[str, str]:
    """Where the receiver listens. An address of the user's stays; one on loopback moves where its port is taken."""
    host, _, remembered = present.settings.inbox_listen.rpartition(":")
    token = {INBOX_TOKEN: environment.remembered_secret(home, INBOX_TOKEN)}
    if INBOX_LISTEN in os.environ or host != ports.LOOPBACK or not remembered.isdecimal():
        return token
    port = _port(home, "inbox", setting=INBOX_PORT, remembered=int(remembered), usual=USUAL_INBOX)
    return {INBOX_LISTEN: f"{ports.LOOPBACK}:{port}", **token}


def _port(home: Path, service: str, *, setting: str, remembered: int, usual: int) -> int:
    """A running service keeps its port unless the user asks for another one."""
    record = read_record(home, service)
    if record and is_alive(record) and ports.explicit_port(setting) in (None, remembered):
        return remembered
    return ports.public_port(setting, remembered=remembered, usual=usual)


def _site(settings: Settings, known: dict[str, str]) -> Site:
    embeds_s3, embeds_prefect = (_is_embedded(known, name) for name in (S3_ADDRESS, PREFECT_ADDRESS))
    changes: dict[str, object] = {}
    if embeds_s3 and S3_ADDRESS in known:
        changes["s3_endpoint"] = known[S3_ADDRESS]
        changes["s3_access_key"] = known.get("IMS_S3_ACCESS_KEY", settings.s3_access_key)
        changes["s3_secret_key"] = SecretStr(known.get("IMS_S3_SECRET_KEY", ""))
    if embeds_prefect and PREFECT_ADDRESS in known:
        changes["prefect_api_url"] = known[PREFECT_ADDRESS]
    login = known.get(LOGIN, "") if embeds_prefect else os.environ.get(LOGIN, known.get(LOGIN, ""))
    changes |= _of_receiver(known, login)
    updated = settings.model_copy(update=changes)
    return Site(settings=updated, login=login, embeds_s3=embeds_s3, embeds_prefect=embeds_prefect)


def _of_receiver(known: dict[str, str], login: str) -> dict[str, object]:
    """Settings of the receiver: where it listens, what it asks for, and how it proves itself to Prefect."""
    changes: dict[str, object] = {"prefect_auth": SecretStr(login) if login else None}
    if listen := os.environ.get(INBOX_LISTEN) or known.get(INBOX_LISTEN):
        changes["inbox_listen"] = listen
    if token := os.environ.get(INBOX_TOKEN) or known.get(INBOX_TOKEN):
        changes["inbox_token"] = SecretStr(token)
    return changes


def _is_embedded(known: dict[str, str], name: str) -> bool:
    """Whether the address in force is none, or the one that was chosen here."""
    address = os.environ.get(name) or known.get(name)
    return address is None or address == known.get(_chosen(name))


def _chosen(name: str) -> str:
    return name.replace("IMS_", "IMS_EMBEDDED_", 1)


def _write_prefect_profile(site: Site) -> None:
    """So that PREFECT_HOME alone tells any Prefect client where the server is and how to prove itself."""
    lines = ['active = "ims"', "", "[profiles.ims]", f'PREFECT_API_URL = "{site.settings.prefect_api_url}"']
    if site.settings.ca_file:
        lines.append(f'PREFECT_API_SSL_CERT_FILE = "{site.settings.ca_file}"')
    lines.append(f'PREFECT_FLOWS_HEARTBEAT_FREQUENCY = "{HEARTBEAT_SECONDS}"')
    if site.login:
        lines.append(f'PREFECT_API_AUTH_STRING = "{site.login}"')
        write_secret(site.login_file, site.login + "\n")
    write_secret(site.prefect_home / "profiles.toml", "\n".join(lines) + "\n")
