"""What the catalog refuses, as plain events with their facts.

Stable codes, remedies and exit codes are `tasks.engine.errors`; `tasks` translates, for models import nothing of theirs.

CatalogError
├── NotVisible          absent, or not visible to the account that asks: never told apart
├── FieldInvalid        a value that the catalog does not store
│   └── NameInvalid     ... because it breaks the name rule
├── NameTaken           an account of that name exists
├── NotAuthenticated    the API key proves nothing
├── RoleNeeded          the step needs an operator's or a reviewer's account
├── TransitionRefused   the subject's state does not allow the step, or another run was faster
├── DeletionRefused     protected, offered on the marketplace, or an ECS is being built from it
├── ImageRefused        what was asked does not go with this image: licensed, public, another's, without a system disk
├── MembersReached      an image has as many members as it may have
├── QuotaReached        the account's limit is reached
├── KeyReused           an idempotency key that stands for another request
├── OperationBusy       another live process runs the same operation
├── LeaseLost           another process took the operation over
├── EcsLocked           another operation has the ECS to itself
├── HostRefused         a host takes no ECS, or cannot be removed
└── CatalogUnreachable  the database does not answer, or was never migrated
"""

from __future__ import annotations


class CatalogError(Exception):
    """Root of all that the catalog refuses; `args` are the facts, so every one of them pickles."""


class NotVisible(CatalogError):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind, self.name = kind, name

    def __str__(self) -> str:
        return f"no {self.kind} {self.name!r} is visible to this account"


class FieldInvalid(CatalogError):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class NameInvalid(FieldInvalid):
    """The name rule is in `models.validation`."""


class NameTaken(CatalogError):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind, self.name = kind, name

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} exists already"


class NotAuthenticated(CatalogError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the API key does not prove account {self.name!r}"


class RoleNeeded(CatalogError):
    """`role` is `operator` or `reviewer`; `step` completes "may not ..."."""

    def __init__(self, name: str, role: str, step: str) -> None:
        super().__init__(name, role, step)
        self.name, self.role, self.step = name, role, step

    def __str__(self) -> str:
        return f"account {self.name!r} is no {self.role} and may not {self.step}"


class TransitionRefused(CatalogError):
    """`old` is the state the caller believed in; the row may have moved on since."""

    def __init__(self, kind: str, subject_id: str, old: str, new: str) -> None:
        super().__init__(kind, subject_id, old, new)
        self.kind, self.id, self.old, self.new = kind, subject_id, old, new

    def __str__(self) -> str:
        return f"{self.kind} {self.id} cannot go from {self.old} to {self.new}"


class DeletionRefused(CatalogError):
    """`reason` is `protected`, `listed` or `in_use`."""

    def __init__(self, kind: str, subject_id: str, reason: str) -> None:
        super().__init__(kind, subject_id, reason)
        self.kind, self.id, self.reason = kind, subject_id, reason

    def __str__(self) -> str:
        return f"{self.kind} {self.id} cannot be deleted: {self.reason}"


class ImageRefused(CatalogError):
    """`reason` is `licensed`, `public`, `shared`, `disks` ...; `step` completes "cannot be ..."."""

    def __init__(self, image_id: str, reason: str, step: str, why: str) -> None:
        super().__init__(image_id, reason, step, why)
        self.id, self.reason, self.step, self.why = image_id, reason, step, why

    def __str__(self) -> str:
        return f"image {self.id} cannot be {self.step}: {self.why}"


class MembersReached(CatalogError):
    def __init__(self, image_id: str, limit: int) -> None:
        super().__init__(image_id, limit)
        self.id, self.limit = image_id, limit

    def __str__(self) -> str:
        return f"image {self.id} has {self.limit} members already"


class QuotaReached(CatalogError):
    """`name` is `images`, `bytes` or `creations`; `used` is what was in use before the refused request."""

    def __init__(self, name: str, limit: int, used: int) -> None:
        super().__init__(name, limit, used)
        self.name, self.limit, self.used = name, limit, used

    def __str__(self) -> str:
        return f"quota of {self.limit} {self.name} is reached: {self.used} in use"


class KeyReused(CatalogError):
    def __init__(self, kind: str, key: str) -> None:
        super().__init__(kind, key)
        self.kind, self.key = kind, key

    def __str__(self) -> str:
        return f"idempotency key {self.key!r} already stands for another {self.kind} request"


class OperationBusy(CatalogError):
    """`owner` says which process holds the lease: host, pid."""

    def __init__(self, operation_id: str, owner: str) -> None:
        super().__init__(operation_id, owner)
        self.id, self.owner = operation_id, owner

    def __str__(self) -> str:
        return f"operation {self.id} is being run by {self.owner}"


class LeaseLost(CatalogError):
    def __init__(self, operation_id: str) -> None:
        super().__init__(operation_id)
        self.id = operation_id

    def __str__(self) -> str:
        return f"operation {self.id} was taken over by another process"


class EcsLocked(CatalogError):
    """`operation` is the id of the operation that holds it, `kind` what that does."""

    def __init__(self, ecs_id: str, kind: str, operation: str) -> None:
        super().__init__(ecs_id, kind, operation)
        self.id, self.kind, self.operation = ecs_id, kind, operation

    def __str__(self) -> str:
        return f"ECS {self.id} is locked by operation {self.operation} ({self.kind})"


class HostRefused(CatalogError):
    """`reason` is `full`, `draining`, `silent`, `none`, `in_use`, `reporting` or `busy`; no `name` where any would do."""

    def __init__(self, name: str, reason: str, why: str) -> None:
        super().__init__(name, reason, why)
        self.name, self.reason, self.why = name, reason, why

    def __str__(self) -> str:
        asked = f"host {self.name}" if self.name else "no host takes it"
        return f"{asked}: {self.why}"


class CatalogUnreachable(CatalogError):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the catalog's database cannot be used: {self.reason}"
