"""Every failure the service names, as one tree. Prefect retries Unavailable alone; the command maps the branches to exit codes.

ImsError
├── Refused                 permanent: somebody must change something (exit 2)
│   ├── DiskRefused         disk.<reason>      the image file is not acceptable
│   ├── SourceRefused       source.<reason>    where the file comes from is not acceptable
│   ├── RequestRefused      request.<reason>   a parameter is not acceptable
│   ├── NotFound            <kind>.not_found   absent, or not visible to the account that asks
│   ├── StateRefused        <kind>.<reason>    the subject's state does not allow the step
│   ├── QuotaExceeded       quota.<name>       the account's limit is reached
│   ├── Unauthenticated     account.key        the API key proves nothing
│   ├── BootRefused         boot.<reason>      the disk never showed a sign of life
│   ├── CaptureRefused      capture.<reason>   the ECS or its disks cannot be captured as asked
│   └── Damaged             store.damaged      stored bytes do not match their name
└── Unavailable             transient: try again (exit 3)
    ├── StoreUnavailable    store.unavailable, store.collected
    ├── CatalogUnavailable  catalog.unavailable
    ├── PrefectUnavailable  prefect.unavailable
    ├── HostUnavailable     host.<reason>      libvirt, QEMU, nbdkit, disk space on this host; another host that does not answer
    ├── SourceUnavailable   source.unavailable
    ├── OperationBusy       operation.busy     another live process runs the same operation
    └── EcsBusy             ecs.locked         another operation has the ECS to itself
"""

from __future__ import annotations

import re

_TOLD = re.compile(r"(?P<leaf>[A-Z][A-Za-z]+): (?P<code>[a-z][a-z0-9_.]*): (?P<message>.+)", re.DOTALL)


class ImsError(Exception):
    """A named failure: `code` is stable and dotted, `message` is one line that ends with what to do, the `remedy`."""

    code = "defect"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.remedy = remedy
        self.message = " ".join(f"{message.rstrip('.')}. {remedy}".split()) if remedy else message
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Refused(ImsError):
    """Permanent: the same call will fail again until somebody changes something."""


class Unavailable(ImsError):
    """Transient: the same call may succeed later and loses nothing by being repeated."""


class _Reasoned(ImsError):
    """A leaf whose code is its family plus a reason."""

    family = ""

    def __init__(self, reason: str, message: str, *, remedy: str = "") -> None:
        self.reason = reason
        self.code = f"{self.family}.{reason}"
        super().__init__(message, remedy=remedy)

    def __reduce__(self) -> tuple[type[_Reasoned], tuple[str, str]]:
        return type(self), (self.reason, self.message)


class DiskRefused(_Reasoned, Refused):
    family = "disk"


class SourceRefused(_Reasoned, Refused):
    family = "source"


class RequestRefused(_Reasoned, Refused):
    family = "request"


class QuotaExceeded(_Reasoned, Refused):
    family = "quota"


class BootRefused(_Reasoned, Refused):
    family = "boot"


class CaptureRefused(_Reasoned, Refused):
    family = "capture"


_LISTS = {
    "key": "ims account keys",
    "listing": "ims market list",
    "member": "ims image members",
    "scan": "ims image scans",
    "version": "ims market mine",
}
"""Where what is not found is listed, if not under its own noun."""


class NotFound(Refused):
    """`kind` is image, ecs, account, flavor ...; the same answer whether it is absent or another account's."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self.code = f"{kind}.not_found"
        where = _LISTS.get(kind, f"ims {kind} list")
        super().__init__(f"no {kind} {name!r} is visible to this account", remedy=f"List yours with `{where}`.")

    def __reduce__(self) -> tuple[type[NotFound], tuple[str, str]]:
        return type(self), (self.kind, self.name)


class StateRefused(Refused):
    """`kind` and `reason` make the code, e.g. image.state, image.protected, ecs.state."""

    def __init__(self, kind: str, reason: str, message: str, *, remedy: str = "") -> None:
        self.kind, self.reason = kind, reason
        self.code = f"{kind}.{reason}"
        super().__init__(message, remedy=remedy)

    def __reduce__(self) -> tuple[type[StateRefused], tuple[str, str, str]]:
        return type(self), (self.kind, self.reason, self.message)


class Unauthenticated(Refused):
    code = "account.key"


class Damaged(Refused):
    code = "store.damaged"


class StoreUnavailable(Unavailable):
    code = "store.unavailable"


class CatalogUnavailable(Unavailable):
    code = "catalog.unavailable"


class PrefectUnavailable(Unavailable):
    code = "prefect.unavailable"


class SourceUnavailable(Unavailable):
    code = "source.unavailable"


class HostUnavailable(_Reasoned, Unavailable):
    family = "host"


class OperationBusy(Unavailable):
    code = "operation.busy"


class EcsBusy(Unavailable):
    code = "ecs.locked"


def retold(text: str) -> ImsError | None:
    """An error as another process told it, `Leaf: code: message`: of the leaf's branch, with its code; else None."""
    told = _TOLD.fullmatch(text.strip())
    leaf = globals().get(told["leaf"]) if told else None
    if told is None or not (isinstance(leaf, type) and issubclass(leaf, ImsError)):
        return None
    branch = next((each for each in (Refused, Unavailable) if issubclass(leaf, each)), ImsError)
    error = branch(told["message"])
    error.code = told["code"]
    return error
