"""Steps of a garbage collection: whose bucket it is, what nothing needs, and a report of it. The protocol is
`tasks.engine.blobs.collecting`."""

from __future__ import annotations

from functools import partial

from prefect import task
from pydantic import BaseModel

from models.collecting import referenced_digests, store_gate
from models.known import newest_digests
from tasks.engine.blobs.collecting import Collected, Rules, collect
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import MANIFEST_PREFIX, manifest_key
from tasks.engine.blobs.objects import Missing, ObjectStore
from tasks.engine.blobs.retrying import unrepeated
from tasks.engine.errors import StateRefused
from tasks.files import scratch_of
from tasks.ledgers import CatalogRegistry
from tasks.markdown import size, table
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress
from tasks.reports import publish
from tasks.resources import catalog, images_bucket
from tasks.sagas import Saga

MARKER = "catalog"
"""The object that says which catalog the bucket belongs to."""
MARKER_BYTES = 64
KNOWN = 20
"""Disks that are looked for in a bucket without a mark."""


class CollectionView(BaseModel):
    """What a collection found and did. Bytes are as stored; `kept_bytes` are of objects that are needed."""

    applied: bool
    manifests: int
    chunks: int
    kept_bytes: int
    garbage: int
    garbage_bytes: int
    young: int
    young_bytes: int
    deleted: int
    bytes_freed: int
    waiting: int
    stopped: str


@task(**RETRIED, task_run_name="whose bucket")
def own_bucket(apply: bool, adopt: bool) -> None:
    """Make sure that the bucket is this catalog's, and mark it. With `adopt` another catalog's mark is replaced.

    Raises StateRefused `store.foreign`: an empty or foreign catalog would take everything in it for garbage.
    """
    objects = images_bucket()
    with catalog() as session:
        own = store_gate(session).catalog_id
        known = [*sorted(referenced_digests(session))[:KNOWN], *newest_digests(session, limit=KNOWN)]
        digests = {ManifestDigest(digest) for digest in known}
    try:
        marked = objects.get(MARKER, limit=MARKER_BYTES).decode(errors="replace")
    except Missing:
        marked = own if _looks_like_ours(objects, digests) else ""
    if marked != own and not adopt:
        whose = f"is marked as catalog {marked}'s" if marked else "holds disks and none that this catalog knows"
        raise StateRefused(
            "store",
            "foreign",
            f"the bucket {whose}, so all of it would be garbage to this one",
            remedy="Check IMS_DATABASE_URL and IMS_IMAGES_BUCKET; `ims store gc --adopt` takes the bucket over.",
        )
    if apply:
        objects.put(MARKER, own.encode())


@task(**ONCE, task_run_name="collect")
def collect_store(saga: Saga, apply: bool, keep_hours: float) -> CollectionView:
    """Find what nothing needs and, with `apply`, delete it. Not retried: the next run goes on where this one ended."""
    objects = images_bucket()
    progress = Progress("Garbage")
    folder = scratch_of(saga)
    folder.mkdir(parents=True, exist_ok=True)
    done = collect(
        objects,
        CatalogRegistry(saga.lease),
        Rules(folder=folder, apply=apply, keep_seconds=keep_hours * 3600),
        delete=unrepeated(objects).delete,
        on_progress=partial(_show, progress),
    )
    return _view(done, apply=apply)


@task(**ONCE, task_run_name="report")
def report_collection(saga: Saga, view: CollectionView) -> CollectionView:
    """Publish what was found."""
    publish(key="store-gc", text=collection_markdown(view), title="Garbage collection")
    saga.result = view.model_dump(mode="json")
    return view


def collection_markdown(view: CollectionView) -> str:
    """A person's reading of it."""
    word = "Deleted" if view.applied else "Would be deleted (a dry run: nothing was)"
    deleted = (view.deleted, view.bytes_freed) if view.applied else (view.garbage, view.garbage_bytes)
    rows = [
        ("Needed", f"{view.manifests} disks, {view.chunks} chunks", size(view.kept_bytes)),
        (word, f"{deleted[0]} objects", size(deleted[1])),
        ("Not needed and too new to be deleted", f"{view.young} objects", size(view.young_bytes)),
    ]
    parts = ["# Garbage collection", table(("", "Objects", "Stored"), rows)]
    if view.waiting:
        parts.append(f"{view.waiting} deletions are not certain; a later run finishes them.")
    if view.stopped:
        parts.append(f"Stopped early: {view.stopped}.")
    return "\n\n".join(parts)


def _looks_like_ours(objects: ObjectStore, digests: set[ManifestDigest]) -> bool:
    """Whether an unmarked bucket holds a disk that the catalog knows, or none at all."""
    for digest in digests:
        try:
            objects.stat(manifest_key(digest))
        except Missing:
            continue
        return True
    return next(iter(objects.list(MANIFEST_PREFIX)), None) is None


def _show(progress: Progress, done: Collected) -> None:
    progress(done.live_bytes + done.garbage_bytes + done.young_bytes)


def _view(done: Collected, *, apply: bool) -> CollectionView:
    return CollectionView(
        applied=apply,
        manifests=done.manifests,
        chunks=done.live_chunks,
        kept_bytes=done.live_bytes,
        garbage=done.garbage,
        garbage_bytes=done.garbage_bytes,
        young=done.young,
        young_bytes=done.young_bytes,
        deleted=done.deleted,
        bytes_freed=done.deleted_bytes,
        waiting=done.waiting,
        stopped=done.stopped,
    )
