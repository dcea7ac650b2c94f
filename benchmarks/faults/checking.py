"""The end of the run: everything repaired, collected and compared, and what is not as it must be by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlmodel import col, select

from benchmarks.deployment import own_guests, until
from benchmarks.faults.attempts import abandoned
from benchmarks.faults.operations import Ledger, Problem, content_of, living_images
from benchmarks.faults.world import World
from models.collecting import referenced_digests
from models.tables import Ecs, Image
from models.vocabulary import UNFINISHED_IMAGE, EcsState, ImageState
from tasks.engine.blobs.chunks import CHUNK_PREFIX, chunk_key
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import MANIFEST_PREFIX, get_manifest, manifest_key
from tasks.engine.blobs.objects import Missing
from tasks.engine.errors import Damaged, ImsError
from tasks.resources import catalog, images_bucket

RUNS_SECONDS = 240.0
"""A host's watcher crashes a run within two minutes of its last heartbeat; the rest is for scheduled ones."""
STRANGER = "unknown; its disks are in"
"""What a reconciliation says of guests of other services on this machine."""


def repair(world: World) -> Iterator[Problem]:
    """Reconcile twice, verify, collect: what a service left alone does in a day."""
    world.must("reconcile")
    for each in _findings(world):
        yield Problem("left", f"the second reconciliation found {each}")
    verified = world.ims("store", "verify", "--all")
    if verified.status != 0:
        yield Problem("lost", f"store verify --all: {verified.short} {verified.values}")
    world.must("store", "gc", "--apply", "--keep-hours", "0")


def compare(world: World, ledger: Ledger, *, runs_seconds: float = RUNS_SECONDS) -> Iterator[Problem]:
    """Catalog, host, store and Prefect server against what was asked for."""
    yield from _images(ledger)
    yield from _guests(world, ledger)
    yield from _files(world)
    yield from _bucket()
    yield from _runs(world, runs_seconds)


def _findings(world: World) -> list[str]:
    found = world.must("reconcile")["findings"]
    return [f"{each['kind']} {each['subject']}: {each['found']}" for each in found if STRANGER not in each["found"]]


def _images(ledger: Ledger) -> Iterator[Problem]:
    for image_id, wanted in ledger.images.items():
        name = ledger.names[image_id]
        found = living_images(name)
        if [each.id for each in found] != [image_id] or found[0].state is not ImageState.ACTIVE:
            states = [f"{each.id} {each.state}" for each in found]
            yield Problem("double" if len(found) > 1 else "lost", f"image {name} ({image_id}): the catalog has {states}")
        else:
            yield from _content(found[0], wanted)
    with catalog() as session:
        living = session.exec(select(Image).where(col(Image.state) != ImageState.DELETED)).all()
        for each in living:
            if each.id not in ledger.images:
                kind = "left" if each.state in UNFINISHED_IMAGE or each.error_code else "double"
                yield Problem(kind, f"image {each.name} ({each.id}) is {each.state} and nobody asked for it")


def _content(image: Image, wanted: str | None) -> Iterator[Problem]:
    """Every chunk is read; a capture's bytes are its running guest's, which nobody else knows."""
    try:
        held = content_of(image)
    except ImsError as error:
        yield Problem("lost", f"image {image.name} ({image.id}) cannot be read: {error.code}")
        return
    if wanted not in (None, held):
        yield Problem("lost", f"image {image.name} ({image.id}) does not hold what was imported")


def _guests(world: World, ledger: Ledger) -> Iterator[Problem]:
    with catalog() as session:
        rows = session.exec(select(Ecs).where(col(Ecs.state) != EcsState.DELETED)).all()
        states = {each.id: (each.name, each.state, each.locked_by) for each in rows}
    domains = own_guests(world.home)
    for ecs_id, (name, state, lock) in states.items():
        if lock is not None:
            yield Problem("left", f"ECS {name} is locked by {lock}")
        if ecs_id not in domains:
            yield Problem("lost", f"ECS {name} ({state}) has no domain")
        if ecs_id not in ledger.ecs:
            yield Problem("double", f"ECS {name} ({state}) is there and nobody asked for it")
    yield from (Problem("left", f"domain {each} has no row") for each in domains if each not in states)
    yield from (Problem("lost", f"ECS {ledger.ecs[each]} has no row") for each in ledger.ecs if each not in states)
    folders = {path.name for path in (world.home / "ecs").iterdir()}
    yield from (Problem("left", f"folder ecs/{each} has no row") for each in folders - set(states))


def _files(world: World) -> Iterator[Problem]:
    yield from (Problem("left", f"scratch/{path.name}") for path in _inside(world.home / "scratch"))
    yield from (Problem("left", f"operation {each} is running and nobody runs it") for each in abandoned())


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _bucket() -> Iterator[Problem]:
    """Exactly the manifests that the catalog needs, and exactly their chunks."""
    objects = images_bucket()
    with catalog() as session:
        digests = [ManifestDigest(each) for each in referenced_digests(session)]
    wanted = {manifest_key(each) for each in digests}
    for each in digests:
        with suppress(Missing, Damaged):  # a manifest that is not there is told by its key, its chunks by their images
            wanted |= {chunk_key(chunk) for _, chunk in get_manifest(objects, each).entries()}
    present = {found.key for prefix in (MANIFEST_PREFIX, CHUNK_PREFIX) for found in objects.list(prefix)}
    yield from (Problem("lost", f"the bucket lacks {key}") for key in sorted(wanted - present))
    yield from (Problem("left", f"the bucket has {key}, which nothing needs") for key in sorted(present - wanted))


def _runs(world: World, seconds: float) -> Iterator[Problem]:
    """Runs that Prefect takes for running or about to run, and nobody runs."""
    body: dict[str, object] = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    seen: list[dict[str, object]] = []

    def is_quiet() -> bool:
        answer = world.prefect("/flow_runs/filter", body)
        seen[:] = answer or []
        return answer == []

    if not until(is_quiet, seconds=seconds, pause=2):
        yield from (Problem("left", f"Prefect run {each['name']} ({each['id']}) is {each['state_name']}") for each in seen)
