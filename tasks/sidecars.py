"""What a writer says of an inbox object in the sidecar beside it, and the import that follows from it. No Prefect here."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import ValidationError

from tasks.engine.blobs.objects import ObjectStore
from tasks.engine.errors import Damaged, RequestRefused
from tasks.engine.inbox.names import SIDECAR, image_name
from tasks.requests import Checksum, DeclaredFormat, ImageLabels, Name, Verify

MAX_SIDECAR = 64 << 10
REMEDY = "Correct it and put it again."


class Sidecar(ImageLabels):
    """A sidecar's fields, all optional; any other is refused."""

    name: Name | None = None
    checksum: Checksum = None
    format: DeclaredFormat = DeclaredFormat.AUTO
    verify: Verify = "boot"


def read_sidecar(bucket: ObjectStore, key: str) -> Sidecar:
    """The sidecar beside the object of this whole key. Raises RequestRefused(sidecar), Missing where it is gone."""
    try:
        body = bucket.get(key + SIDECAR, limit=MAX_SIDECAR)
    except Damaged as error:
        raise RequestRefused("sidecar", f"the sidecar is larger than {MAX_SIDECAR} bytes", remedy=REMEDY) from error
    try:
        return Sidecar.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        what = f"the sidecar's {where}" if where else "the sidecar"
        raise RequestRefused("sidecar", f"{what}: {first['msg']}", remedy=REMEDY) from error


def import_parameters(sidecar: Sidecar, *, key: str, account: str, version: str, etag: str) -> dict[str, Any]:
    """Parameters of `import_image` for one version of an object; `version` is what its idempotency key begins with."""
    said = hashlib.sha256(sidecar.model_dump_json().encode()).hexdigest()[:16]
    labels = sidecar.model_dump(mode="json", include=set(ImageLabels.model_fields))
    return {
        "source": f"inbox:{key}",
        "name": sidecar.name or image_name(key),
        "account": account,
        "format": sidecar.format.value,
        "checksum": sidecar.checksum,
        "verify": sidecar.verify,
        "options": {**labels, "etag": etag, "idempotency_key": f"{version}-{said}"},
    }
