"""The receiver of bucket notifications as a service; what it does is in `tasks.engine.inbox.receiver`."""

from __future__ import annotations

import sys

from deployments.embedded import probes
from deployments.embedded.services import Service
from deployments.embedded.site import INBOX_LISTEN, INBOX_TOKEN, LOGIN, Site
from tasks.engine.inbox import HEALTH, PATH


def service(site: Site) -> Service:
    listen = site.settings.inbox_listen
    url = f"http://{listen}"
    return Service(
        name="inbox",
        command=(sys.executable, "-m", "tasks.engine.inbox.receiver"),
        address=url + PATH,
        ready=lambda _since: probes.http_status(url.replace("//0.0.0.0:", "//127.0.0.1:") + HEALTH) == 200,
        environment={**site.environment, INBOX_LISTEN: listen},
        secrets=_secrets(site),
        start_seconds=60,
    )


def _secrets(site: Site) -> dict[str, str]:
    token = site.settings.inbox_token
    return {LOGIN: site.login, INBOX_TOKEN: token.get_secret_value() if token else ""}
