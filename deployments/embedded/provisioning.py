"""What the services must hold before anybody can work: buckets and deployments. The catalog is made ready in `catalog`.

Every step looks first and changes only what is missing.
"""

from __future__ import annotations

import subprocess
import sys

from deployments import registering
from deployments.embedded.services import inherited_environment, log_path, tail
from deployments.embedded.site import Site, look_up
from deployments.registering import Place, Scope
from tasks.engine.blobs.opening import open_named_bucket
from tasks.engine.errors import PrefectUnavailable
from tasks.engine.settings import Settings

REGISTER_SECONDS = 180


def make_buckets(settings: Settings) -> None:
    """Raises StoreUnavailable, or StateRefused where these credentials may not."""
    for name in (settings.images_bucket, settings.inbox_bucket, settings.exports_bucket):
        open_named_bucket(settings, name).create()


def register_deployments(site: Site) -> None:
    """Apply prefect.yaml unless the server has it already. Raises PrefectUnavailable with the log's last lines."""
    scope = Scope.OWN if site.embeds_prefect else Scope.KEEP
    _register(site, Place(host=site.settings.host, pool=site.settings.work_pool, scope=scope))


def register_host(settings: Settings, host: str, pool: str) -> None:
    """The work pool and the deployments of another host. Raises PrefectUnavailable."""
    _register(look_up(settings), Place(host=host, pool=pool, scope=Scope.HOST))


def unregister_host(_settings: Settings, host: str) -> None:
    """Take a host's deployments away. Raises PrefectUnavailable."""
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        registering.forget(host)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise PrefectUnavailable(f"the deployments of {host} are still there: {error}", remedy="Delete them there.") from error


def _register(site: Site, place: Place) -> None:
    if registering.is_registered(site.settings.prefect_api_url, login=site.login, place=place):
        return
    log = log_path(site.home, "registration")
    with log.open("wb") as output:
        result = subprocess.run(
            [sys.executable, "-m", "deployments.registering", place.host, place.scope],
            env={
                **inherited_environment(),
                **site.environment,
                "IMS_HOST": place.pool,
                "IMS_RELEASE": registering.release(),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=REGISTER_SECONDS,
            check=False,
        )
    if result.returncode != 0:
        raise PrefectUnavailable(
            f"prefect.yaml could not be applied: {tail(log, lines=3) or '(no output)'}", remedy=f"See {log}."
        )
