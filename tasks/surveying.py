"""What the object store holds, counted: what is needed and what is not. Not a step, so that no command pays for Prefect."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tasks.engine.blobs.collecting import Rules, collect
from tasks.ledgers import CatalogRegistry
from tasks.resources import images_bucket


def survey() -> dict[str, int]:
    """Disks, distinct chunks, and bytes as stored, of what is needed and of all. Reads every manifest, lists every object."""
    with tempfile.TemporaryDirectory(prefix="ims-stats-") as folder:
        rules = Rules(folder=Path(folder), apply=False, keep_seconds=0)
        found = collect(images_bucket(), CatalogRegistry(None), rules, delete=_refuse)
    return {
        "disks": found.manifests,
        "chunks": found.live_chunks,
        "unique_bytes": found.live_bytes,
        "stored_bytes": found.live_bytes + found.garbage_bytes,
    }


def _refuse(key: str) -> None:
    raise AssertionError(f"a survey deletes nothing, so not {key} either")
