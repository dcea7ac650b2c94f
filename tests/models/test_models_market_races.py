"""Whatever two runs do to one image at once, the catalog is as if one had come after the other, and neither waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import pytest
from catalog_rows import Catalog
from market_races import NEWCOMER, PAIRS, REVIEWER, STEPS, SUBSCRIBER, Situation, Subject, make_subjects, situation, standings
from sqlalchemy import Connection, Engine, event, text

from models.exceptions import CatalogError, CatalogUnreachable

PATIENCE = 20
COMMITS = 0.3
"""How many of the stops are before the commit."""
ON_POSTGRESQL = pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.server)], indirect=True)
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
Pair = tuple[str, str]
End = tuple[dict[str, list[bool]], list[object]]
"""Which steps were done, and how things stand then."""


class Brakes:
    """Stops a thread before one of its statements, or before its commit, until it is let go; keeps what each has sent."""

    def __init__(self, engine: Engine) -> None:
        self.thread = threading.local()
        self.stopped, self.release = threading.Event(), threading.Event()
        event.listen(engine, "before_cursor_execute", lambda *sent: self._pass(sent[2]))
        event.listen(engine, "commit", lambda _: self._pass("COMMIT"))

    def set(self, at: int | None) -> list[str]:
        """For the thread that calls: before which statement to stop. Returns where its statements will be."""
        sent: list[str] = []
        self.thread.at, self.thread.sent = at, sent
        return sent

    def _pass(self, statement: str) -> None:
        sent: list[str] | None = getattr(self.thread, "sent", None)
        if sent is None:
            return
        sent.append(statement)
        if self.thread.at == len(sent) - 1:
            self.stopped.set()
            assert self.release.wait(PATIENCE)


@dataclass(slots=True)
class Race:
    """Two steps on a subject; the first may stop before one of its statements. `done` says which of them were."""

    first: str
    second: str
    given: Situation
    stop: int | None = None
    before: str = ""
    on: Subject = field(init=False, repr=False)
    done: tuple[bool, bool] = (False, False)

    @property
    def outcome(self) -> dict[str, list[bool]]:
        """Whether each was done, whichever is called the first."""
        if self.first == self.second:
            return {self.first: sorted(self.done)}
        return {self.first: [self.done[0]], self.second: [self.done[1]]}


class Orders(NamedTuple):
    """A pair one after the other, in either order: the statements of whichever went first, and how it ended."""

    forth: Race
    back: Race
    sent: tuple[list[str], list[str]]
    ends: tuple[End, End]


class Track:
    """One catalog, two threads and the brakes."""

    def __init__(self, catalog: Catalog, pool: ThreadPoolExecutor, watch: Connection) -> None:
        self.catalog, self.pool, self.watch, self.brakes = catalog, pool, watch, Brakes(catalog.engine)
        with catalog.write() as session:
            for name in (REVIEWER, SUBSCRIBER, NEWCOMER):
                catalog.account(session, name, reviewer=name == REVIEWER)

    def prepare(self, races: Sequence[Race]) -> None:
        with self.catalog.write() as session:
            for race, subject in zip(races, make_subjects(session, [race.given for race in races]), strict=True):
                race.on = subject

    def run(self, name: str, on: Subject, *, stop: int | None = None) -> bool:
        """Whether the step was done. A deadlock is no refusal."""
        self.brakes.set(stop)
        try:
            with self.catalog.write() as session:
                return STEPS[name][0](session, on) is not False
        except CatalogUnreachable:
            raise
        except CatalogError:
            return False

    def in_turn(self, race: Race) -> list[str]:
        """One after the other. Returns the statements of the first."""
        first = self.run(race.first, race.on)
        sent: list[str] = self.brakes.thread.sent
        race.done = first, self.run(race.second, race.on)
        return sent

    def stopped(self, race: Race) -> None:
        """The first stops, the second goes on until it is done or waits for the first."""
        self.brakes.stopped.clear()
        self.brakes.release.clear()
        first = self.pool.submit(self.run, race.first, race.on, stop=race.stop)
        self._await(first, self.brakes.stopped.is_set)
        second = self.pool.submit(self.run, race.second, race.on)
        self._await(second, self._somebody_waits)
        self.brakes.release.set()
        race.done = first.result(PATIENCE), second.result(PATIENCE)

    def _await(self, running: Future[bool], state: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not running.done() and not state():
            assert time.monotonic() < deadline, "neither done nor waiting"
            time.sleep(0.001)

    def _somebody_waits(self) -> bool:
        return bool(self.watch.execute(WAITING).scalar_one())

    def together(self, race: Race) -> None:
        """Both at once, as it comes."""
        start = threading.Barrier(2)

        def run(name: str) -> bool:
            start.wait()
            return self.run(name, race.on)

        first, second = [self.pool.submit(run, name) for name in (race.first, race.second)]
        race.done = first.result(PATIENCE), second.result(PATIENCE)

    def ends(self, races: Sequence[Race]) -> list[End]:
        with self.catalog.read() as session:
            found = standings(session, [race.on for race in races])
        return [(race.outcome, end) for race, end in zip(races, found, strict=True)]


@pytest.fixture
def track(catalog: Catalog) -> Iterator[Track]:
    with ThreadPoolExecutor(2) as pool, catalog.engine.connect() as watch:
        yield Track(catalog, pool, watch.execution_options(isolation_level="AUTOCOMMIT"))


def both_orders(track: Track, random: Random, pairs: Sequence[Pair]) -> list[Orders]:
    """What comes of every pair one after the other, in either order."""
    given = [situation(random, STEPS[first][1], STEPS[second][1]) for first, second in pairs]
    forth = [Race(first, second, stands) for (first, second), stands in zip(pairs, given, strict=True)]
    back = [Race(race.second, race.first, race.given) for race in forth]
    track.prepare([*forth, *back])
    sent = [(track.in_turn(one), track.in_turn(other)) for one, other in zip(forth, back, strict=True)]
    ends = zip(track.ends(forth), track.ends(back), strict=True)
    return [Orders(*all_of) for all_of in zip(forth, back, sent, ends, strict=True)]


def raced(track: Track, races: Sequence[tuple[Race, Orders]], how: Callable[[Race], None]) -> None:
    """Hold the races; each must end as one of the orders of its steps does."""
    track.prepare([race for race, _ in races])
    for race, _ in races:
        how(race)
    ends = track.ends([race for race, _ in races])
    wrong = [
        f"{race}\nended {end}\nallowed {orders.ends}"
        for (race, orders), end in zip(races, ends, strict=True)
        if end not in orders.ends
    ]
    assert not wrong, f"{len(wrong)} of {len(races)} races: " + "\n\n".join(wrong)


def stop(random: Random, statements: Sequence[str]) -> int:
    """Where to stop: before the commit or before any other statement but the first, when nothing has happened yet."""
    last = len(statements) - 1
    return last if last < 2 or random.random() < COMMITS else random.randint(1, last - 1)


@ON_POSTGRESQL
def test_stopped_anywhere_a_step_and_another_are_as_one_after_the_other(track: Track) -> None:
    random = Random("stopped")
    races = [
        (Race(race.first, race.second, race.given, stop=at, before=sent[at]), orders)
        for orders in both_orders(track, random, PAIRS)
        for race, sent in zip((orders.forth, orders.back), orders.sent, strict=True)
        for at in [stop(random, sent)]
    ]
    raced(track, races, track.stopped)


def test_two_steps_at_once_are_as_one_after_the_other(track: Track) -> None:
    random = Random("at once")
    orders = both_orders(track, random, random.sample(PAIRS, 40))
    raced(track, [(Race(one.forth.first, one.forth.second, one.forth.given), one) for one in orders * 3], track.together)
