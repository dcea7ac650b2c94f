"""One libvirt connection with its errors in this service's words; the life of a domain is in `domain`, its XML in `domain_xml`.

Nothing is connected before the first call. libvirt's own error printing to stderr is switched off for the whole process,
because every error is raised as an exception as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self
from uuid import UUID

import libvirt

from tasks.engine.errors import HostUnavailable, StateRefused

DOMAIN_PREFIX = "ims-"
_NO_SERVER = (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_RPC)


def domain_name(ecs_id: UUID) -> str:
    """The domain of an ECS."""
    return f"{DOMAIN_PREFIX}{ecs_id}"


class Hypervisor:
    """A host's libvirt; use it as a context manager or close it. Calls reconnect after libvirtd was restarted."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connection: Any = None

    @property
    def connection(self) -> Any:
        """The live virConnect."""
        if self._connection is None or not self._connection.isAlive():
            self.close()
            libvirt.registerErrorHandler(_ignore, None)
            with libvirt_calls(f"connecting to {self.uri}"):
                self._connection = libvirt.open(self.uri)
        return self._connection

    def find(self, ecs_id: UUID) -> Any | None:
        """The virDomain of an ECS, or None where libvirt knows none."""
        with libvirt_calls("looking up a domain"):
            try:
                return self.connection.lookupByName(domain_name(ecs_id))
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise

    def domain(self, ecs_id: UUID) -> Any:
        """The virDomain of an ECS; StateRefused where it is gone."""
        if (found := self.find(ecs_id)) is None:
            raise StateRefused("ecs", "domain_gone", f"libvirt at {self.uri} has no domain {domain_name(ecs_id)}",
                               remedy="Start the ECS again, or delete it.")  # fmt: skip
        return found

    def close(self) -> None:
        """Drop the connection; transient guests that hang on it end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(libvirt.libvirtError):  # the server may have gone first
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def libvirt_calls(action: str) -> Iterator[None]:
    """Turn libvirt's errors into HostUnavailable: `host.libvirt` where no server answers, `host.guest` where it refused."""
    try:
        yield
    except libvirt.libvirtError as error:
        message = " ".join(str(error.get_error_message() or error).split())[:400]
        if error.get_error_code() in _NO_SERVER:
            remedy = "Is libvirtd running? `ims up` starts it where no service manager does."
            raise HostUnavailable("libvirt", f"{action}: {message}", remedy=remedy) from error
        raise HostUnavailable("guest", f"{action}: {message}") from error


def _ignore(_context: object, _error: object) -> None:
    """libvirt's error printer, silenced."""
