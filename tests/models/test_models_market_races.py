"""Whatever two runs do to one image at once, the catalog is as if one had come after the other, and neither waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from catalog_rows import Catalog
from market_races import NEWCOMER, REVIEWER, STEPS, SUBSCRIBER, Situation, Subject, make_subjects, situation, standing
from sqlalchemy import Connection, Engine, event, text

from models.accounts import Limits
from models.exceptions import CatalogError, CatalogUnreachable

PATIENCE = 20
ON_POSTGRESQL = pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.server)], indirect=True)
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
Pair = tuple[str, str]
Outcome = tuple[bool, bool, list[object]]
"""Whether the first was done, whether the second was, and how things stand then."""


class Brakes:
    """Stops a thread before one of its statements, or before its commit, until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self.thread = threading.local()
        self.stopped, self.release = threading.Event(), threading.Event()
        event.listen(engine, "before_cursor_execute", lambda *_: self._pass())
        event.listen(engine, "commit", lambda _: self._pass())

    def set(self, at: int | None) -> None:
        """For the thread that calls: before which statement to stop, counted from 0."""
        self.thread.at, self.thread.passed = at, 0

    def _pass(self) -> None:
        at = getattr(self.thread, "at", None)
        self.thread.passed = getattr(self.thread, "passed", 0) + 1
        if at == self.thread.passed - 1:
            self.stopped.set()
            assert self.release.wait(PATIENCE)


class Track:
    """One catalog, two threads and the brakes."""

    def __init__(self, catalog: Catalog, pool: ThreadPoolExecutor, watch: Connection) -> None:
        self.catalog, self.pool, self.watch, self.brakes = catalog, pool, watch, Brakes(catalog.engine)
        with catalog.write() as session:
            for name in (REVIEWER, SUBSCRIBER, NEWCOMER):
                catalog.account(session, name, reviewer=name == REVIEWER, limits=Limits())

    def subjects(self, given: Situation, number: int) -> list[Subject]:
        with self.catalog.write() as session:
            return make_subjects(session, given, number)

    def run(self, name: str, on: Subject, *, stop_at: int | None = None) -> tuple[bool, int]:
        """Whether the step was done, and in how many statements."""
        self.brakes.set(stop_at)
        try:
            with self.catalog.write() as session:
                done = STEPS[name][0](session, on) is not False
        except CatalogUnreachable:  # a deadlock
            raise
        except CatalogError:
            done = False
        return done, self.brakes.thread.passed

    def allowed(self, names: Pair, subjects: Sequence[Subject]) -> list[Outcome]:
        """What comes of one after the other, on a subject of its own for either order."""
        forth, back = subjects
        first, second = self.run(names[0], forth)[0], self.run(names[1], forth)[0]
        later, sooner = self.run(names[1], back)[0], self.run(names[0], back)[0]
        return [self.outcome((first, second), forth), self.outcome((sooner, later), back)]

    def outcome(self, done: tuple[bool, bool], on: Subject) -> Outcome:
        with self.catalog.read() as session:
            return *done, standing(session, on)

    def stopped(self, names: Pair, on: Subject, *, at: int) -> Outcome:
        """The first stops before statement `at`, the second goes on until it is done or waits for the first."""
        self.brakes.stopped.clear()
        self.brakes.release.clear()
        first = self.pool.submit(self.run, names[0], on, stop_at=at)
        self._await(first, self.brakes.stopped.is_set)
        second = self.pool.submit(self.run, names[1], on)
        self._await(second, self._somebody_waits)
        self.brakes.release.set()
        return self.outcome((first.result(PATIENCE)[0], second.result(PATIENCE)[0]), on)

    def _await(self, running: Future[tuple[bool, int]], state: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not running.done() and not state():
            assert time.monotonic() < deadline, "neither done nor waiting"
            time.sleep(0.001)

    def _somebody_waits(self) -> bool:
        return bool(self.watch.execute(WAITING).scalar_one())

    def together(self, names: Pair, on: Subject) -> Outcome:
        """Both at once, as it comes."""
        start = threading.Barrier(2)

        def run(name: str) -> bool:
            start.wait()
            return self.run(name, on)[0]

        first, second = [self.pool.submit(run, name) for name in names]
        return self.outcome((first.result(PATIENCE), second.result(PATIENCE)), on)


@pytest.fixture
def track(catalog: Catalog) -> Iterator[Track]:
    with ThreadPoolExecutor(2) as pool, catalog.engine.connect() as watch:
        yield Track(catalog, pool, watch.execution_options(isolation_level="AUTOCOMMIT"))


@ON_POSTGRESQL
@pytest.mark.parametrize("first", STEPS)
def test_stopped_anywhere_a_step_and_another_are_as_one_after_the_other(track: Track, first: str) -> None:
    for second in STEPS:
        names, given = (first, second), situation(f"{first}, {second}", STEPS[first][1], STEPS[second][1])
        serial = track.subjects(given, 2)
        _, statements = track.run(first, track.subjects(given, 1)[0])
        allowed = track.allowed(names, serial)
        for at, on in enumerate(track.subjects(given, statements), start=1):
            found = track.stopped(names, on, at=at)
            assert found in allowed, f"{first} stopped before its statement {at}, {second} beside it, from {given}"


@pytest.mark.parametrize("first", STEPS)
def test_step_and_another_at_once_are_as_one_after_the_other(track: Track, first: str) -> None:
    for second in [name for name in STEPS if name >= first]:
        names, given = (first, second), situation(f"{second}, {first}", STEPS[first][1], STEPS[second][1])
        *serial, one, other = track.subjects(given, 4)
        allowed = track.allowed(names, serial)
        for on in (one, other):
            found = track.together(names, on)
            assert found in allowed, f"{first} and {second} at once, from {given}"
