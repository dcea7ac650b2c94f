"""Settings become live things: catalog sessions, buckets, the hypervisor. The only place that builds them.

What the catalog refuses becomes the service's own errors here, so that steps and commands see one tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlmodel import Session

from models import accounts, keys
from models.database import open_engine, session_scope
from models.exceptions import (
    CatalogError,
    CatalogUnreachable,
    DeletionRefused,
    EcsLocked,
    FieldInvalid,
    HostRefused,
    ImageRefused,
    KeyReused,
    LeaseLost,
    MembersReached,
    NameTaken,
    NotAuthenticated,
    NotVisible,
    QuotaReached,
    RoleNeeded,
    TransitionRefused,
)
from models.exceptions import OperationBusy as LeaseHeld
from tasks.engine.errors import (
    CatalogUnavailable,
    EcsBusy,
    HostUnavailable,
    ImsError,
    NotFound,
    OperationBusy,
    QuotaExceeded,
    RequestRefused,
    StateRefused,
    Unauthenticated,
)
from tasks.engine.settings import Settings, load_settings

if TYPE_CHECKING:
    from tasks.engine.blobs.objects import ObjectStore
    from tasks.engine.guests.hypervisor import Hypervisor


@lru_cache(maxsize=4)
def _engine(url: str) -> Engine:
    return open_engine(url)


@contextmanager
def catalog(*, write: bool = False) -> Iterator[Session]:
    """One transaction of the catalog, committed at the end when `write`. Its refusals are raised as ImsErrors."""
    try:
        with session_scope(_engine(load_settings().catalog_url), write=write) as session:
            yield session
    except CatalogError as error:
        raise translate(error) from error


def images_bucket(settings: Settings | None = None) -> ObjectStore:
    """The bucket of chunks and manifests."""
    return _bucket((settings or load_settings()).images_bucket)


def inbox_bucket() -> ObjectStore:
    """The bucket people upload to, `<account>/...`."""
    return _bucket(load_settings().inbox_bucket)


def exports_bucket() -> ObjectStore:
    """The bucket exported files are handed out from."""
    return _bucket(load_settings().exports_bucket)


def hypervisor(uri: str | None = None) -> Hypervisor:
    """This host's libvirt, or the one at `uri`; not connected yet."""
    from tasks.engine.guests.hypervisor import Hypervisor

    return Hypervisor(uri or load_settings().libvirt_uri)


def require_account(session: Session, *, account: str) -> str:
    """Prove that this process may act for `account`: it holds the account's API key, or an operator's. Returns the account."""
    settings = load_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if not key:
        raise Unauthenticated("no API key is known to this process", remedy="Set IMS_API_KEY, or run `ims up` first.")
    try:
        return keys.authenticate(session, name=account, key=key).name
    except NotAuthenticated:
        # The operator's worker acts for everybody; whoever reads its key may read the database as well.
        if settings.account != account and _is_operator(session, name=settings.account, key=key):
            return accounts.get_account(session, name=account).name
        raise


def prove(account: str) -> str:
    """The account, once this process has proved it, in a transaction of its own. Raises Unauthenticated."""
    with catalog() as session:
        return require_account(session, account=account)


def prove_operator(account: str, *, step: str) -> str:
    """The same for an account that must be an operator's; `step` completes "may not ...". Raises StateRefused as well."""
    with catalog() as session:
        name = require_account(session, account=account)
        return accounts.require_operator(session, name=name, step=step).name


def _is_operator(session: Session, *, name: str, key: str) -> bool:
    try:
        return keys.authenticate(session, name=name, key=key).operator
    except NotAuthenticated:
        return False


def _bucket(name: str) -> ObjectStore:
    from tasks.engine.blobs.opening import open_named_bucket

    return open_named_bucket(load_settings(), name)


_DELETION_REMEDIES = {
    "protected": "Unprotect it first.",
    "listed": "Withdraw its version for all first.",
    "in_use": "Wait for the launch to end.",
}


_HOST_REMEDIES = {
    "full": "Delete ECSs, take a smaller flavor, or add a host.",
    "draining": "Take another host, or `ims host resume` it.",
    "none": "Run `ims up` on a machine, or `ims host add`.",
    "in_use": "Delete them first: `ims host show` lists them. Where it will not come back: `ims host remove --lost`.",
    "reporting": "Drain it and delete its ECSs, or shut it down.",
    "busy": "Another host's watcher closes it within two minutes; then ask again.",
}


def translate(error: CatalogError) -> ImsError:  # one line per event of the catalog
    """The ImsError that a catalog event is to people."""
    match error:
        case NotVisible():
            return NotFound(error.kind, error.name)
        case NotAuthenticated():
            return Unauthenticated(str(error), remedy="Check IMS_ACCOUNT and IMS_API_KEY.")
        case RoleNeeded():
            return StateRefused("account", error.role, str(error), remedy=f"Ask one who has the {error.role} role.")
        case FieldInvalid():
            return RequestRefused(error.field, str(error), remedy="Correct it and try again.")
        case NameTaken():
            return RequestRefused("name_taken", str(error), remedy="Choose another name.")
        case QuotaReached():
            return QuotaExceeded(error.name, str(error), remedy="Delete what you do not need, or ask for a larger quota.")
        case KeyReused():
            return RequestRefused("idempotency_key", str(error), remedy="Use a new key for a new request.")
        case DeletionRefused():
            return StateRefused(error.kind, error.reason, str(error), remedy=_DELETION_REMEDIES[error.reason])
        case ImageRefused():
            return StateRefused("image", error.reason, str(error), remedy=f"Look at `ims image show {error.id}`.")
        case MembersReached():
            return QuotaExceeded("members", str(error), remedy="Withdraw shares that are not needed.")
        case TransitionRefused():
            return StateRefused(error.kind, "state", str(error), remedy=f"Look at `ims {error.kind} show {error.id}`.")
        case HostRefused(reason="silent"):
            return HostUnavailable("silent", str(error), remedy="Run `ims up` there, or take another host.")
        case HostRefused():
            return StateRefused("host", error.reason, str(error), remedy=_HOST_REMEDIES[error.reason])
        case EcsLocked():
            return EcsBusy(str(error), remedy="Wait for it to end; `ims reconcile` releases what nobody runs any more.")
        case LeaseHeld() | LeaseLost():
            return OperationBusy(str(error), remedy="Wait for it to end, or end that process.")
        case CatalogUnreachable():
            return CatalogUnavailable(str(error), remedy="Run `ims up`, or check IMS_DATABASE_URL.")
    raise error
