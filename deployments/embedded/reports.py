"""What `ims up`, `ims down` and `ims status` answer; how it is found out is in `supervisor`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

State = Literal["running", "stopped", "failed"]


class ServiceStatus(BaseModel):
    """One service: `failed` is one that was started here and has died or does not answer."""

    state: State
    pid: int | None = None
    address: str = ""
    log: str = ""
    note: str = ""


class Status(BaseModel):
    """All services by name, and where the Prefect UI is. `prefect_login` is the file with the words that UI asks for."""

    services: dict[str, ServiceStatus]
    prefect_ui: str
    prefect_login: str = ""

    @property
    def all_running(self) -> bool:
        return all(service.state == "running" for service in self.services.values())
