"""Accounts of a test, each with the command as it runs it. No tests here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from commands import Outcome, Service


@dataclass(frozen=True)
class Party:
    """One account and its key."""

    service: Service
    name: str
    key: str

    @classmethod
    def join(cls, service: Service, name: str, *options: str) -> Party:
        made = service.ims("account", "create", name, *options)
        return cls(service, made["name"], made["api_key"])

    @property
    def environment(self) -> dict[str, str]:
        return {"IMS_ACCOUNT": self.name, "IMS_API_KEY": self.key}

    def ims(self, *arguments: str) -> dict[str, Any]:
        return self.service.ims(*arguments, **self.environment)

    def run(self, *arguments: str) -> Outcome:
        return self.service.run(*arguments, **self.environment)

    def refused(self, *arguments: str, status: int = 2) -> str:
        return self.service.refused(*arguments, status=status, **self.environment)

    def sees(self) -> dict[str, str]:
        """Name and type of every image that it lists."""
        return {image["name"]: image["type"] for image in self.ims("image", "list", "--limit", "1000")["images"]}
