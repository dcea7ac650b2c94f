"""Proof that the comparison at the end can fail: one thing of each kind is made wrong, must be named, and is mended again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.checking import compare
from benchmarks.faults.operations import Ledger, Problem, living_images
from benchmarks.faults.world import World
from models.operations import Owner, Request, begin_operation, fail
from models.tables import Image
from models.vocabulary import ImageState
from tasks.engine.blobs.chunks import CHUNK_PREFIX, chunk_key
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.manifests import get_manifest
from tasks.resources import catalog, hypervisor, images_bucket

MOST_BYTES = 1 << 21
NOBODYS = str(uuid.UUID(int=7))
DOMAIN = """<domain type='qemu'><name>ims-{id}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><source file='{home}/planted'/><target dev='vda'/></disk></devices></domain>"""


@dataclass(frozen=True, slots=True)
class Plant:
    """What is wrong while `planted` is entered, and how the comparison must call it."""

    what: str
    kind: str
    names: str
    planted: Callable[[], AbstractContextManager[None]]

    def is_named(self, problems: list[Problem]) -> bool:
        """Whether it was found."""
        return any(each.kind == self.kind and self.names in each.text for each in problems)


def prove(world: World, ledger: Ledger) -> Iterator[tuple[Plant, bool]]:
    """Make one thing wrong, compare, mend it, and so on; whether each was named. Needs an image in the ledger."""
    for plant in _plants(world, ledger):
        with plant.planted():
            named = plant.is_named(list(compare(world, ledger, runs_seconds=0)))
        yield plant, named


def _plants(world: World, ledger: Ledger) -> list[Plant]:
    image_id = next(image_id for image_id, digest in ledger.images.items() if digest is not None)
    name = ledger.names[image_id]
    (image,) = living_images(name)
    manifest = get_manifest(images_bucket(), ManifestDigest(str(image.disks[0].digest)))
    chunk = chunk_key(next(digest for _, digest in manifest.entries()))
    stray = f"{CHUNK_PREFIX}00/{'0' * 64}"
    return [
        Plant("a chunk is deleted", "lost", f"the bucket lacks {chunk}", lambda: _object(chunk, None)),
        Plant("a chunk holds other bytes", "lost", f"image {name} ({image_id}) cannot be read", lambda: _object(chunk, b"x")),
        Plant("a disk is another than was imported", "lost", "does not hold what", lambda: _expected(ledger, image_id)),
        Plant("an image is deleted", "lost", f"image {name} ({image_id}): the catalog has", lambda: _gone(image_id)),
        Plant("an image is there twice", "double", f"image {name} ({image_id}): the catalog has", lambda: _twin(name)),
        Plant("an ECS has no row", "lost", "ECS planted has no row", lambda: _missing_ecs(ledger)),
        Plant("a domain has no row", "left", f"domain {NOBODYS} has no row", lambda: _domain(world.home)),
        Plant("an object that nothing needs", "left", f"the bucket has {stray}", lambda: _object(stray, b"x")),
        Plant("a folder of no ECS", "left", "folder ecs/planted", lambda: _folder(world.home / "ecs" / "planted")),
        Plant("a scratch folder", "left", "scratch/planted", lambda: _folder(world.home / "scratch" / "planted")),
        Plant("an operation of a dead process", "left", "operation planted", _operation),
        Plant("a run that nobody runs", "left", "Prefect run planted", lambda: _run(world)),
    ]


@contextmanager
def _object(key: str, body: bytes | None) -> Iterator[None]:
    objects = images_bucket()
    was_there = any(found.key == key for found in objects.list(key))
    before = objects.get(key, limit=MOST_BYTES) if was_there else None
    _set(key, body)
    try:
        yield
    finally:
        _set(key, before)


def _set(key: str, body: bytes | None) -> None:
    if body is None:
        images_bucket().delete(key)
    else:
        images_bucket().put(key, body)


@contextmanager
def _expected(ledger: Ledger, image_id: str) -> Iterator[None]:
    before = ledger.images[image_id]
    ledger.images[image_id] = "0" * 64
    yield
    ledger.images[image_id] = before


@contextmanager
def _gone(image_id: str) -> Iterator[None]:
    def put(state: ImageState) -> None:
        with catalog(write=True) as session:
            session.get_one(Image, image_id).state = state

    put(ImageState.DELETED)
    try:
        yield
    finally:
        put(ImageState.ACTIVE)


@contextmanager
def _twin(name: str) -> Iterator[None]:
    with catalog(write=True) as session:
        session.add(twin := Image(owner="admin", name=name, state=ImageState.ACTIVE))
        twin_id = twin.id
    try:
        yield
    finally:
        with catalog(write=True) as session:
            session.delete(session.get_one(Image, twin_id))


@contextmanager
def _missing_ecs(ledger: Ledger) -> Iterator[None]:
    ledger.ecs[NOBODYS] = "planted"
    yield
    del ledger.ecs[NOBODYS]


@contextmanager
def _domain(home: Path) -> Iterator[None]:
    with hypervisor() as host:
        domain = host.connection.defineXML(DOMAIN.format(id=NOBODYS, home=home))
        try:
            yield
        finally:
            domain.undefine()


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()


@contextmanager
def _operation() -> Iterator[None]:
    """Its lease is over, and its host is no host's watcher's."""
    dead = Owner(host="planted", pid=1, started="0")
    with catalog(write=True) as session:
        asked = Request(kind="planted", account="admin", key="planted")
        begun = begin_operation(session, request=asked, owner=dead, is_alive=lambda _owner: False, lease_seconds=0)
    try:
        yield
    finally:
        if begun.lease is not None:
            with catalog(write=True) as session:
                fail(session, lease=begun.lease, code="planted", message="It is over.")


@contextmanager
def _run(world: World) -> Iterator[None]:
    flow = world.prefect("/flows/", {"name": "planted"}) or {}
    wanted: dict[str, object] = {"name": "planted", "flow_id": flow.get("id"), "state": {"type": "RUNNING"}}
    run = world.prefect("/flow_runs/", wanted) or {}
    try:
        yield
    finally:
        world.prefect(f"/flow_runs/{run.get('id')}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
