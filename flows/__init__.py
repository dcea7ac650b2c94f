"""The lifecycles: one verb per module, each a Prefect flow a person can run. The steps are in `tasks`.

Importing this package points Prefect at the services that `ims up` started, unless the environment names others, so that
`from flows.import_image import import_image` is recorded by the same server that the command and the workers use.
"""

from __future__ import annotations

import os

from tasks.engine.settings import default_home

PROFILE = "ims"
HEARTBEAT_SECONDS = "30"
"""How often a run says that it lives, where nobody set it; `deployments.stopped_runs` counts on it."""


def _find_prefect() -> None:
    """Prefect reads these when it is first imported; an address in the environment wins."""
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_SECONDS)
    home = default_home() / "prefect"
    if "PREFECT_API_URL" not in os.environ and os.access(home / "profiles.toml", os.R_OK):
        os.environ.setdefault("PREFECT_HOME", str(home))
        os.environ.setdefault("PREFECT_PROFILE", PROFILE)


_find_prefect()
