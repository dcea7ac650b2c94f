"""Imports, captures and collections as processes do them, over the real catalog and a bucket in memory.

What a flow does is done here step by step with the same functions; `collecting_stage` decides when each call happens. No tests.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from collecting_stage import Actor, Order, Stage, StagedObjects
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from models.collecting import referenced_digests
from models.database import session_scope
from models.ecs import NewEcs, create_ecs, delete_ecs, get_ecs
from models.exceptions import CatalogError
from models.facts import DiskFacts
from models.image_changes import activate_image, fail_image, forget_disks, record_disk, requeue_image
from models.images import NewImage, create_image, delete_image, own_image
from models.operations import (
    Begun,
    Lease,
    Owner,
    Request,
    begin_operation,
    bind_subject,
    fail,
    finish,
    record_step,
    step_detail,
)
from models.states import transition
from models.tables import Disk, Ecs, Image
from models.trail import Actor as By
from models.vocabulary import UNFINISHED_IMAGE, DiskKind, EcsState, ImageState
from tasks.engine.blobs.chunks import ChunkStore, chunk_key
from tasks.engine.blobs.collecting import Rules, collect
from tasks.engine.blobs.keeping import QUIET_SECONDS
from tasks.engine.blobs.manifest import Manifest, ManifestDigest
from tasks.engine.blobs.manifests import get_manifest, manifest_key
from tasks.engine.blobs.pipeline import ingest
from tasks.engine.errors import CatalogUnavailable, ImsError, NotFound, Unavailable
from tasks.engine.geometry import CHUNK_SIZE, PendingChunk
from tasks.ledgers import CatalogLedger, CatalogRegistry

OWNER = "alice"
ALICE = By(OWNER)
TAIL = 700
LETTERS = 3
ATTEMPTS = 3
"""What a step's retries come to."""
STORED = "stored"
BEGINNING = datetime.fromisoformat("2030-01-01T00:00:00Z")
EVERYWHERE = frozenset(range(3))

Content = tuple[int | None, int | None, int | None]
"""Two whole chunks and a tail, each a letter or zeros."""


def raw_of(index: int, letter: int | None) -> bytes:
    length = CHUNK_SIZE if index < 2 else TAIL
    return bytes(length) if letter is None else _RAW[letter][:length]


_RAW = [bytes((letter,)) * CHUNK_SIZE for letter in b"ABC"]


class ContentReader:
    """A disk of that content, of which `changed` may differ from the parent's."""

    def __init__(self, content: Content, changed: frozenset[int] = EVERYWHERE) -> None:
        self.virtual_size = 2 * CHUNK_SIZE + TAIL
        self._content, self._changed = content, changed

    def pending_chunks(self) -> Iterator[PendingChunk]:
        for index in sorted(self._changed):
            yield PendingChunk(index, lambda index=index: raw_of(index, self._content[index]))  # type: ignore[misc]

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True)
class Job:
    """What somebody asked for, to be repeated under its key: an import, or with `ecs` a capture."""

    key: str
    content: Content
    ecs: str = ""
    changed: frozenset[int] = EVERYWHERE


class World:
    """One catalog, one stage, and what every image must contain."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.stage = Stage()
        self.jobs: list[Job] = []
        self.contents: dict[str, Content] = {}
        self._keys: dict[str, set[str]] = {}
        self._numbers = itertools.count(1)

    # What the test does by itself, between the actors' calls.

    @contextmanager
    def plain(self, *, write: bool = False) -> Iterator[Session]:
        with session_scope(self.engine, write=write) as session:
            yield session

    def launch(self, image_id: str) -> str:
        with self.plain(write=True) as session:
            ecs = create_ecs(session, new=NewEcs(name=f"e{next(self._numbers)}", image_id=image_id, host="here"), by=ALICE)
            transition(session, subject=ecs, new=EcsState.ACTIVE, by=ALICE)
            return ecs.id

    def delete_image(self, image_id: str) -> None:
        with self.plain(write=True) as session:
            delete_image(session, image_id=image_id, by=ALICE)

    def delete_ecs(self, ecs_id: str) -> None:
        with self.plain(write=True) as session:
            delete_ecs(session, ecs=get_ecs(session, account=OWNER, ecs_id=ecs_id), by=ALICE)

    def images(self, *states: ImageState) -> list[str]:
        with self.plain() as session:
            return list(session.exec(select(Image.id).where(col(Image.state).in_(states)).order_by(col(Image.created_at))))

    def guests(self) -> list[str]:
        with self.plain() as session:
            return list(session.exec(select(Ecs.id).where(Ecs.state != EcsState.DELETED).order_by(col(Ecs.created_at))))

    def content_under(self, ecs_id: str) -> Content:
        with self.plain() as session:
            return self.contents[get_ecs(session, account=OWNER, ecs_id=ecs_id).image_id]

    def wait_quiet(self) -> None:
        """Nothing that was sent to the store is under way any more."""
        for actor in self.stage.playing:
            if actor.label.startswith("delete "):
                actor.step(Order.GO)
        self.stage.carry_out(all=True)
        self.stage.clock += QUIET_SECONDS + 1

    # What must hold.

    def check(self) -> None:
        """Every manifest that is needed is whole, and active images contain what they should."""
        store = ChunkStore(self.stage.bucket)
        with self.plain() as session:
            digests = referenced_digests(session)
            disks = session.exec(select(Disk).join(Image).where(Image.state == ImageState.ACTIVE)).all()
        for digest in digests:
            for _, chunk in get_manifest(store.objects, ManifestDigest(digest)).entries():
                store.get(chunk)
        for disk in disks:
            manifest = get_manifest(store.objects, ManifestDigest(disk.digest or ""))
            for index, letter in enumerate(self.contents[disk.image_id]):
                chunk = manifest.digest_at(index)
                assert (store.get(chunk) if chunk else bytes(len(raw_of(index, None)))) == raw_of(index, letter)

    def check_presence(self) -> None:
        """The same but for contents, which are what they are from their first put on."""
        missing = self.needed_keys() - self.kept_keys()
        assert not missing, f"{missing} is needed and was deleted"

    def needed_keys(self) -> set[str]:
        """The objects that a bucket without garbage holds."""
        with self.plain() as session:
            return set().union(*map(self._keys_of, referenced_digests(session)))

    def _keys_of(self, digest: str) -> set[str]:
        if digest not in self._keys:
            manifest = get_manifest(self.stage.bucket, ManifestDigest(digest))
            chunks = {chunk_key(chunk) for _, chunk in manifest.entries()}
            self._keys[digest] = chunks | {manifest_key(ManifestDigest(digest))}
        return self._keys[digest]

    def kept_keys(self) -> set[str]:
        return {info.key for info in self.stage.bucket.list("")}

    # What actors do.

    def start(self, order: Job) -> Actor:
        """A process that does what was ordered, or goes on with it; an earlier one of the same key may still be there."""
        return self.stage.enter(order.key, lambda actor: self._make(actor, order))

    def new_job(self, content: Content, *, ecs: str = "", changed: frozenset[int] = EVERYWHERE) -> Job:
        order = Job(f"{'capture' if ecs else 'import'}-{next(self._numbers)}", content, ecs, changed)
        self.jobs.append(order)
        return order

    def collect(self) -> Actor:
        return self.stage.enter(f"collect-{next(self._numbers)}", self._collect)

    @contextmanager
    def catalog(self, *, write: bool = False) -> Iterator[Session]:
        """A transaction at the moment that the stage gives to the actor whose thread this is."""
        actor: Actor = self.stage.current.actor
        label = f"transaction {sys._getframe(2).f_code.co_name}"
        order = actor.wait(label)
        if order in (Order.DIE_BEFORE, Order.DIE_LATE):
            actor.die(label)
        if order in (Order.FAIL, Order.FAIL_LATE):
            raise CatalogUnavailable("no answer")
        try:
            with session_scope(self.engine, write=write) as session:
                yield session
        except CatalogError as error:
            raise NotFound("step", str(error)) from error
        if order is Order.DIE_AFTER:
            actor.die(label)

    def _begin(self, session: Session, kind: str, key: str) -> Begun:
        """Whoever began it before counts as gone, as after the end of a lease; its process may not know."""
        owner = Owner("here", next(self._numbers), "1")
        return begin_operation(
            session, request=Request(kind=kind, account=OWNER, key=key), owner=owner, is_alive=lambda _: False
        )

    def _collect(self, actor: Actor) -> None:
        objects = StagedObjects(actor)
        try:
            with self.catalog(write=True) as session:
                lease = self._begin(session, "collect", actor.name).lease
            registry = CatalogRegistry(lease, now=self._now)
            rules = Rules(folder=self.folder, apply=True, keep_seconds=-3600, round=2, grant=2, clock=lambda: self.stage.clock)
            collect(objects, registry, rules, delete=objects.delete)
        except ImsError:
            return

    def _now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.stage.clock)

    def _make(self, actor: Actor, order: Job) -> None:
        """The saga of an import or a capture, with its transactions where the flow has them."""
        lease: Lease | None = None
        try:
            with self.catalog(write=True) as session:
                begun = self._begin(session, order.key.partition("-")[0], order.key)
                lease, subject, stored = begun.lease, begun.operation.subject_id, step_detail(begun.operation, name=STORED)
            if lease is not None:
                self._make_image(actor, order, lease, subject, stored)
        except ImsError as error:
            if lease is not None:
                self._fail(lease, error)

    def _make_image(self, actor: Actor, order: Job, lease: Lease, subject: str | None, stored: dict[str, str] | None) -> None:
        with self.catalog() as session:
            image = session.get(Image, subject) if subject else None
            active = image is not None and image.state is ImageState.ACTIVE
        if not active:
            subject = self._queue(order, lease, subject)
            digest = stored["digest"] if stored and stored["image"] == subject else self._store(actor, order, lease, subject)
            with self.catalog(write=True) as session:
                image = own_image(session, account=OWNER, image_id=subject)
                facts = DiskFacts(
                    index=0, kind=DiskKind.SYSTEM, virtual_size=1, digest=digest, data_bytes=1, stored_bytes=1, new_bytes=1
                )
                record_disk(session, image=image, facts=facts)
                transition(session, subject=image, new=ImageState.VERIFYING, by=ALICE)
            with self.catalog(write=True) as session:
                activate_image(session, image=own_image(session, account=OWNER, image_id=subject), by=ALICE)
        with self.catalog(write=True) as session:
            finish(session, lease=lease, result={})

    def _queue(self, order: Job, lease: Lease, subject: str | None) -> str:
        with self.catalog(write=True) as session:
            image = session.get(Image, subject) if subject else None
            if image is not None and image.state is not ImageState.DELETED:
                requeue_image(session, image=image, by=ALICE)
                forget_disks(session, image=image)
            else:
                image = create_image(session, new=NewImage(name=order.key, size=1), by=ALICE)
                bind_subject(session, lease=lease, subject_id=image.id)
            transition(session, subject=image, new=ImageState.TRANSFERRING, by=ALICE)
            self.contents[image.id] = order.content
            return image.id

    def _store(self, actor: Actor, order: Job, lease: Lease, image_id: str) -> str:
        """The step that stores the disk, with its retries, and for a capture the note that it needs the ECS no more."""
        for attempt in itertools.count(1):
            try:
                digest = self._ingest(actor, order, lease)
                break
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
        if order.ecs:
            with self.catalog(write=True) as session:
                record_step(session, lease=lease, name=STORED, detail={"image": image_id, "digest": digest})
        return digest

    def _ingest(self, actor: Actor, order: Job, lease: Lease) -> str:
        store = ChunkStore(StagedObjects(actor))
        parent: Manifest | None = None
        if order.ecs:
            with self.catalog() as session:
                base = get_ecs(session, account=OWNER, ecs_id=order.ecs).disks[0].base_digest
            parent = get_manifest(store.objects, ManifestDigest(base or ""))
        reader = ContentReader(order.content, order.changed)
        return ingest(reader, store, CatalogLedger(lease, now=self._now), threads=1, parent=parent).manifest_digest

    def _fail(self, lease: Lease, error: ImsError) -> None:
        try:
            with self.catalog(write=True) as session:
                operation = fail(session, lease=lease, code=error.code, message=error.message)
                image = session.get(Image, operation.subject_id) if operation.subject_id else None
                if image is not None and image.state in UNFINISHED_IMAGE:
                    fail_image(session, image=image, code=error.code, message=error.message, by=ALICE)
        except ImsError:
            return
