"""A stage on which actors run one call at a time: each waits before every call of the store or the catalog until it is told to
go on, to die before the call or after it, or to leave a deletion behind that the store carries out later. No tests here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.blobs.objects import ObjectInfo
from tasks.engine.errors import StoreUnavailable

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""A call that takes longer than this has hung, and the test with it."""


class Killed(BaseException):
    """The actor's process is gone."""


class Order(StrEnum):
    """What an actor that waits is told."""

    GO = "go"
    DIE_BEFORE = "die before"
    DIE_AFTER = "die after"
    DIE_LATE = "die, and the deletion is carried out later"
    FAIL = "the store does not answer"
    FAIL_LATE = "the store does not answer, and deletes later"


DEATHS = (Order.DIE_BEFORE, Order.DIE_AFTER, Order.DIE_LATE)


class Actor:
    """One thread (and those that it starts), of which one call at a time waits on the stage."""

    def __init__(self, stage: Stage, name: str, body: Callable[[Actor], None]) -> None:
        self.stage, self.name = stage, name
        self.waiting = threading.Event()
        self.told = threading.Event()
        self.label = ""
        self.order = Order.GO
        self.ended = False
        self.error: BaseException | None = None
        self._dead = False
        self._thread = threading.Thread(target=self._run, args=(body,), name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self.settle()

    def settle(self) -> None:
        """Wait until the actor waits or has ended."""
        if not self.waiting.wait(PATIENCE_SECONDS):
            raise AssertionError(f"{self.name} hangs after {self.label}")

    def step(self, order: Order) -> None:
        """Let it do what it waits for, and wait for the next call."""
        self.order = order
        self.waiting.clear()
        self.told.set()
        self.settle()

    def call(self, label: str, run: Callable[[], T], late: Callable[[], object] | None = None) -> T:
        """Do one call of the store when the stage says so. Called in the actor's own threads."""
        order = self.wait(label)
        if late is not None and order in (Order.DIE_LATE, Order.FAIL_LATE):
            self.stage.late.append(late)
        if order in (Order.DIE_BEFORE, Order.DIE_LATE):
            self.die(label)
        if order in (Order.FAIL, Order.FAIL_LATE):
            raise StoreUnavailable("no answer")
        result = run()
        if order is Order.DIE_AFTER:
            self.die(label)
        return result

    def wait(self, label: str) -> Order:
        """Wait for the stage's order."""
        if self._dead:
            raise Killed(label)
        self.label = label
        self.waiting.set()
        if not self.told.wait(PATIENCE_SECONDS):
            raise Killed("the stage is gone")
        self.told.clear()
        return self.order

    def die(self, label: str) -> NoReturn:
        self._dead = True
        raise Killed(label)

    def _run(self, body: Callable[[Actor], None]) -> None:
        self.stage.current.actor = self
        try:
            body(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.error = error
        self.ended = True
        self.waiting.set()


class Stage:
    """The actors, the bucket, and deletions that the store has yet to carry out."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.bucket = MemoryObjects()
        self.late: list[Callable[[], object]] = []
        self.current = threading.local()
        self.clock = 0.0

    def enter(self, name: str, body: Callable[[Actor], None]) -> Actor:
        actor = Actor(self, name, body)
        self.actors.append(actor)
        actor.start()
        return actor

    @property
    def playing(self) -> list[Actor]:
        return [actor for actor in self.actors if not actor.ended]

    def carry_out(self, *, all: bool) -> None:
        """The store carries out what it was asked long ago; without `all` only the first of it."""
        while self.late:
            self.late.pop(0)()
            if not all:
                return

    def close(self) -> None:
        """Every actor dies where it stands."""
        for actor in self.playing:
            while not actor.ended:
                actor.step(Order.DIE_BEFORE)


class StagedObjects:
    """The bucket as one actor sees it."""

    def __init__(self, actor: Actor) -> None:
        self._actor, self._inner = actor, actor.stage.bucket

    def ping(self) -> None:
        self._inner.ping()

    def create(self) -> None:
        self._inner.create()

    def put(self, key: str, body: bytes) -> None:
        self._actor.call(f"put {key}", lambda: self._inner.put(key, body))

    def get(self, key: str, *, limit: int) -> bytes:
        return self._actor.call(f"get {key}", lambda: self._inner.get(key, limit=limit))

    def stat(self, key: str) -> int:
        return self._actor.call(f"stat {key}", lambda: self._inner.stat(key))

    def delete(self, key: str) -> None:
        self._actor.call(f"delete {key}", lambda: self._inner.delete(key), late=lambda: self._inner.delete(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        yield from self._actor.call(f"list {prefix}", lambda: list(self._inner.list(prefix, after=after)))

    def upload(self, key: str, source: Path) -> None:
        raise NotImplementedError

    def download(self, key: str, target: Path) -> None:
        raise NotImplementedError

    def presign(self, key: str, *, seconds: int) -> str:
        raise NotImplementedError
