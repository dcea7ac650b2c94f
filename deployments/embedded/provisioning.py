"""What the services must hold before anybody can work: buckets and deployments. The catalog is made ready in `catalog`.

Every step looks first and changes only what is missing.
"""

from __future__ import annotations

import subprocess
import sys

from deployments import registering
from deployments.embedded.services import inherited_environment, log_path, tail
from deployments.embedded.site import Site
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
    pool = site.settings.host
    if registering.is_registered(site.settings.prefect_api_url, login=site.login, pool=pool):
        return
    log = log_path(site.home, "registration")
    with log.open("wb") as output:
        result = subprocess.run(
            [sys.executable, "-m", "deployments.registering"],
            env={**inherited_environment(), **site.environment, "IMS_HOST": pool, "IMS_RELEASE": registering.release()},
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
