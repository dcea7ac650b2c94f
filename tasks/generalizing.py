"""The step that removes a captured guest's identity: on private overlays over what was stored, never on the ECS's own disks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from prefect import task

from models.facts import DiskFacts
from models.image_changes import record_generalized, record_guest
from models.images import own_image
from models.vocabulary import DiskKind
from tasks.captures import chunk_of, facts_of
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.engine.blobs.pipeline import ingest
from tasks.engine.disks.changed_reader import OverlayReader
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.overlay import create_overlay
from tasks.engine.inspection.generalizing import Generalized, generalize
from tasks.engine.inspection.guestfs import InspectionLimits
from tasks.engine.settings import load_settings
from tasks.exports import require_server
from tasks.files import scratch_of
from tasks.ledgers import CatalogLedger
from tasks.policies import RETRIED
from tasks.progress import log
from tasks.resources import catalog, images_bucket
from tasks.sagas import Saga
from tasks.verification import accelerator, guest_facts

SECONDS = 600


@task(**RETRIED, task_run_name="generalise")
def generalize_disks(saga: Saga, image_id: str, disks: list[DiskFacts]) -> list[DiskFacts]:
    """The disks without the guest's identity; only chunks that this touches are new. Data disks alone have none to remove."""
    if disks[0].kind is not DiskKind.SYSTEM:
        return disks
    require_server()
    overlays = [_overlay(scratch_of(saga) / f"generalised-{disk.index}.qcow2", disk) for disk in disks]
    done = generalize(overlays, InspectionLimits(kvm=accelerator().kind == "kvm", timeout_seconds=SECONDS))
    log.info("Generalised: %d paths removed, %d could not be", len(done.removed) + done.more, len(done.skipped))
    changed = [_store(saga, overlay, disk) for overlay, disk in zip(overlays, disks, strict=True)]
    with catalog(write=True) as session:
        image = own_image(session, account=saga.account, image_id=image_id)
        record_guest(session, image=image, detected=guest_facts(done.facts))
        record_generalized(session, image=image, detail=_detail(done))
    for overlay in overlays:
        overlay.unlink()
    return changed


def _overlay(path: Path, disk: DiskFacts) -> Path:
    """A new overlay over what was captured; one of an earlier attempt is in no defined state."""
    backing = Backing(socket=load_settings().exports_socket, export=disk.digest, virtual_size=disk.virtual_size)
    create_overlay(path, backing=backing, virtual_size=disk.virtual_size)
    return path


def _store(saga: Saga, overlay: Path, disk: DiskFacts) -> DiskFacts:
    """The captured disk with what the overlay changed of it."""
    objects = images_bucket()
    store = ChunkStore(objects)
    parent = get_manifest(objects, ManifestDigest(disk.digest))
    size = disk.virtual_size
    with OverlayReader(overlay, virtual_size=size, base_size=size, base=partial(chunk_of, parent, store)) as reader:
        threads = load_settings().import_threads
        done = ingest(reader, store, CatalogLedger(saga.held), threads=threads, parent=parent)
    return facts_of(done, index=disk.index, kind=disk.kind, parent_stored=disk.stored_bytes, new_bytes=disk.new_bytes)


def _detail(done: Generalized) -> dict[str, Any]:
    """What the image keeps of it, operation by operation."""
    removed: dict[str, list[list[Any]]] = {}
    for each in done.removed:
        removed.setdefault(each.operation, []).append([each.path, each.size])
    return {"removed": removed, "removed_more": done.more, "skipped": list(done.skipped)}
