"""Short ways to accounts and rows in a test's catalog, and to calls that race. The databases themselves are in conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

from sqlalchemy import Engine, func
from sqlmodel import Session, select

from models.accounts import Limits, create_account
from models.database import session_scope
from models.ecs import NewEcs, create_ecs
from models.exceptions import CatalogError
from models.facts import DiskFacts
from models.gate import Passage, record_passage, set_public
from models.image_changes import activate_image, record_disk
from models.images import NewImage, create_image
from models.states import transition
from models.tables import Ecs, Image, Row
from models.trail import Actor
from models.vocabulary import DiskKind, ImageState, Purpose


class Catalog:
    """A migrated catalog with operator `admin` and accounts `alice` and `bob`, and the shortest way to rows in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with self.write() as session:
            for name in ("admin", "alice", "bob"):
                self.account(session, name, operator=name == "admin", reviewer=name == "admin")

    @contextmanager
    def write(self) -> Iterator[Session]:
        with session_scope(self.engine, write=True) as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        with session_scope(self.engine) as session:
            yield session

    def account(
        self, session: Session, name: str, *, operator: bool = False, reviewer: bool = False, limits: Limits | None = None
    ) -> str:
        made = create_account(session, name=name, operator=operator, reviewer=reviewer, limits=limits, by=Actor("admin"))
        return made.api_key

    def queued(self, session: Session, name: str = "web", *, owner: str = "alice", size: int = 10) -> Image:
        return create_image(session, new=NewImage(name=name, size=size), by=Actor(owner))

    def active(self, session: Session, name: str = "web", *, owner: str = "alice", digest: str = "a" * 64) -> Image:
        image = self.queued(session, name, owner=owner)
        for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
            transition(session, subject=image, new=state, by=Actor(owner))
        record_disk(session, image=image, facts=system_disk(digest=digest))
        activate_image(session, image=image, by=Actor(owner))
        return image

    def public(self, session: Session, name: str = "base", *, digest: str = "d" * 64) -> Image:
        """An image of the operator's that passed a scan and is everybody's."""
        return self.flag_public(session, self.active(session, name, owner="admin", digest=digest))

    def flag_public(self, session: Session, image: Image) -> Image:
        scan = record_passage(session, image=image, passage=passage(Purpose.PUBLIC), by=Actor("admin"))
        return set_public(session, image_id=image.id, scan_id=scan.id, by=Actor("admin"))

    def count(self, session: Session, table: type[Row]) -> int:
        return session.exec(select(func.count()).select_from(table)).one()

    def building(self, session: Session, image: Image, *, owner: str = "alice", name: str = "web-1") -> Ecs:
        new = NewEcs(name=name, image_id=image.id, host="here")
        return create_ecs(session, new=new, by=Actor(owner))


def passage(purpose: Purpose, *, passed: bool = True) -> Passage:
    return Passage(purpose=purpose, passed=passed, findings=[], report="", sbom="")


def system_disk(*, digest: str = "a" * 64, virtual_size: int = 2 << 30) -> DiskFacts:
    return DiskFacts(
        index=0,
        kind=DiskKind.SYSTEM,
        virtual_size=virtual_size,
        digest=digest,
        data_bytes=8,
        stored_bytes=4,
        new_bytes=2,
    )


def race(calls: Sequence[Callable[[], object]]) -> list[CatalogError | None]:
    """Run all calls at once in threads; for each what it was refused with, or None where it won."""
    start = Barrier(len(calls))

    def run(call: Callable[[], object]) -> CatalogError | None:
        start.wait()
        try:
            call()
        except CatalogError as error:
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
