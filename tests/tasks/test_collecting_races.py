"""Nothing that an image or an ECS needs is ever collected, however imports, captures, deletions and collections interleave,
whatever dies and whenever; and in the end nothing is left over.

Protocols that lack one thing are found out by the same search.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from catalog_rows import Catalog
from collecting_stage import DEATHS, Order
from collecting_world import EVERYWHERE, LETTERS, Content, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import event

from models import collecting as rows
from models.database import migrate, open_engine
from models.vocabulary import ImageState
from tasks import ledgers
from tasks.engine.blobs import collecting, keeping
from tasks.engine.blobs.objects import Missing

LETTER = st.none() | st.integers(0, LETTERS - 1)
CONTENT = st.tuples(LETTER, LETTER, LETTER)
PICK = st.integers(0, 9)
MEMORY = Path("/dev/shm")
CROWD = 4
TURNS = st.lists(st.tuples(PICK, st.integers(1, 8)), min_size=1, max_size=6)


class Duel(RuleBasedStateMachine):
    """A collector against imports of what it takes for garbage. The catalog is a copy of `template`."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="collecting-", dir=MEMORY if MEMORY.is_dir() else None))
        shutil.copy(self.template, self.folder / "catalog.db")
        engine = open_engine(f"sqlite:///{self.folder / 'catalog.db'}")
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        self.world = World(engine, self.folder)
        ledgers.catalog = self.world.catalog  # type: ignore[assignment]

    @initialize(content=CONTENT)
    def begin(self, content: Content) -> None:
        """An image whose chunks are garbage now, the same on its way again, and a collector."""
        play(self.world.start(self.world.new_job(content)))
        self.world.delete_image(self.world.images(ImageState.ACTIVE)[0])
        self.world.start(self.world.new_job(content))
        self.world.collect()

    @precondition(lambda self: self.world.stage.playing)
    @rule(turns=TURNS)
    def go(self, turns: list[tuple[int, int]]) -> None:
        """Some calls of one actor, then some of another, and so on."""
        for pick, calls in turns:
            for _ in range(calls):
                if playing := self.world.stage.playing:
                    chosen(playing, pick).step(Order.GO)
                    self.world.check_presence()

    @precondition(lambda self: self.world.stage.playing)
    @rule(pick=PICK, order=st.sampled_from([each for each in Order if each is not Order.GO]))
    def harm(self, pick: int, order: Order) -> None:
        actor = chosen(self.world.stage.playing, pick)
        actor.step(order)
        while order in DEATHS and not actor.ended:
            actor.step(order)
        self.world.check_presence()

    @precondition(lambda self: self.world.jobs)
    @rule(pick=PICK)
    def repeat(self, pick: int) -> None:
        """Somebody repeats a command, be its first run dead, failed, done or merely asleep."""
        if len(self.world.stage.playing) < CROWD:
            self.world.start(chosen(self.world.jobs, pick))

    @rule()
    def start_collection(self) -> None:
        if len(self.world.stage.playing) < CROWD:
            self.world.collect()

    @precondition(lambda self: self.world.stage.late)
    @rule()
    def carry_out(self) -> None:
        self.world.stage.carry_out(all=False)
        self.world.check_presence()

    @rule()
    def wait_quiet(self) -> None:
        self.world.wait_quiet()
        self.world.check_presence()

    def teardown(self) -> None:
        """All runs come to an end, what failed is deleted, and two collections leave nothing that is not needed."""
        try:
            self.end()
        finally:
            self.world.stage.close()
            self.world.engine.dispose()
            shutil.rmtree(self.folder)

    def end(self) -> None:
        """How a story ends; what went wrong in an actor is told."""
        for actor in self.world.stage.playing:
            play(actor)
        self.world.check()
        for actor in self.world.stage.actors:
            if actor.error is not None:
                raise actor.error


class Everything(Duel):
    """Everything else that may happen to a bucket, and a last collection after which nothing is left over."""

    @rule(content=CONTENT)
    def start_import(self, content: Content) -> None:
        if len(self.world.stage.playing) < CROWD:
            self.world.start(self.world.new_job(content))

    @precondition(lambda self: self.world.guests())
    @rule(pick=PICK, content=CONTENT, changed=st.frozensets(st.integers(0, 2)))
    def start_capture(self, pick: int, content: Content, changed: frozenset[int]) -> None:
        if len(self.world.stage.playing) < CROWD:
            ecs = chosen(self.world.guests(), pick)
            before = self.world.content_under(ecs)
            after = tuple(content[i] if i in changed else before[i] for i in sorted(EVERYWHERE))
            self.world.start(self.world.new_job(after, ecs=ecs, changed=changed))  # type: ignore[arg-type]

    @precondition(lambda self: self.world.images(ImageState.ACTIVE))
    @rule(pick=PICK)
    def launch(self, pick: int) -> None:
        self.world.launch(chosen(self.world.images(ImageState.ACTIVE), pick))

    @precondition(lambda self: self.world.images(ImageState.ACTIVE, ImageState.ERROR))
    @rule(pick=PICK)
    def delete_image(self, pick: int) -> None:
        self.world.delete_image(chosen(self.world.images(ImageState.ACTIVE, ImageState.ERROR), pick))

    @precondition(lambda self: self.world.guests())
    @rule(pick=PICK)
    def delete_ecs(self, pick: int) -> None:
        """Of one that nobody captures: a capture has its ECS locked."""
        ecs = chosen(self.world.guests(), pick)
        captured = {job.key for job in self.world.jobs if job.ecs == ecs}
        if not any(actor.name in captured for actor in self.world.stage.playing):
            self.world.delete_ecs(ecs)

    def end(self) -> None:
        super().end()
        for job in self.world.jobs:
            play(self.world.start(job))
        self.world.wait_quiet()
        play(self.world.collect())
        super().end()
        for image in self.world.images(ImageState.ERROR):
            self.world.delete_image(image)
        play(self.world.collect())
        super().end()
        assert self.world.kept_keys() == self.world.needed_keys()


def play(actor: Any) -> None:
    while not actor.ended:
        actor.step(Order.GO)


def chosen(values: list[Any], pick: int) -> Any:
    return values[pick % len(values)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated catalog with accounts."""
    path = tmp_path_factory.mktemp("collecting") / "catalog.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    Catalog(engine)
    engine.dispose()
    return path


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer asks again twice; the stage decides what happens meanwhile."""
    monkeypatch.setattr(keeping, "PAUSES", 2)
    monkeypatch.setattr(keeping, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(ledgers, "catalog", ledgers.catalog)


def search(kind: type[Duel], template: Path, *, examples: int, steps: int) -> None:
    machine = type("Machine", (kind,), {"template": template})
    rules = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    run_state_machine_as_test(machine, settings=rules)  # type: ignore[no-untyped-call]


def test_nothing_needed_is_collected_and_nothing_else_is_kept(template: Path) -> None:
    search(Everything, template, examples=20, steps=30)


# What each flawed protocol lacks, and a schedule on which that loses an image.


def _forgets_deletions(patch: pytest.MonkeyPatch) -> None:
    """A writer never hears that what it found was deleted."""
    against = rows._against

    def lenient(session: Any, keys: Any, proved: Any, *, since: int) -> Any:
        return against(session, keys, proved, since=1 << 40)

    patch.setattr(rows, "_against", lenient)


def _reads_references_once(patch: pytest.MonkeyPatch) -> None:
    """The collector believes what it read before it published."""
    read = collecting._Collection._read_references

    def once(self: Any) -> None:
        if not hasattr(self, "looked"):
            self.looked = True
            read(self)

    patch.setattr(collecting._Collection, "_read_references", once)


def _deletes_what_was_taken_back(patch: pytest.MonkeyPatch) -> None:
    grant = rows.grant

    def all_of_them(session: Any, *, lease: Any, keys: Any, at: Any) -> set[str]:
        grant(session, lease=lease, keys=keys, at=at)
        return set(keys)

    patch.setattr(rows, "grant", all_of_them)


def _takes_nothing_back(patch: pytest.MonkeyPatch) -> None:
    """A writer relies on what is published."""
    patch.setattr(rows, "_take_back", lambda session, keys: None)


def _settles_before_it_deletes(patch: pytest.MonkeyPatch) -> None:
    delete = collecting._Collection._delete

    def hasty(self: Any, sizes: dict[str, int]) -> None:
        if sizes:
            self._registry.settle(list(sizes))
        delete(self, sizes)

    patch.setattr(collecting._Collection, "_delete", hasty)


def _does_not_wait_for_the_dead(patch: pytest.MonkeyPatch) -> None:
    """What a collector left behind is settled at once."""
    patch.setattr(ledgers, "QUIET_SECONDS", -1)


def _believes_what_was_not_answered(patch: pytest.MonkeyPatch) -> None:
    def sure(self: Any, sizes: dict[str, int]) -> None:
        for key in sizes:
            try:
                self._delete_one(key)
            except collecting.StoreUnavailable:
                continue
        if sizes:
            self._registry.settle(list(sizes))

    patch.setattr(collecting._Collection, "_delete", sure)


def _holds_nothing(patch: pytest.MonkeyPatch) -> None:
    """What a run has stored counts only once an image says so."""
    merge = rows.Session.merge

    def without_holds(self: Any, row: Any, **options: Any) -> Any:
        return row if isinstance(row, rows.HeldDisk) else merge(self, row, **options)

    patch.setattr(rows.Session, "merge", without_holds)


def _import_sees_what_is_deleted_then(world: World) -> None:
    writer, collector = both(world)
    run_until(writer, "put manifests/")
    play(collector)
    play(writer)


def _image_is_made_between_look_and_publication(world: World) -> None:
    writer, collector = both(world)
    run_until(collector, "transaction publish")
    play(writer)
    play(collector)


def _disk_is_held_before_the_grant(world: World) -> None:
    writer, collector = both(world)
    run_until(collector, "transaction grant")
    play(writer)
    play(collector)


def _import_comes_while_it_is_deleted(world: World) -> None:
    _, collector = both(world, writer=False)
    run_until(collector, "delete ")
    play(world.start(world.jobs[-1]))
    play(collector)


def _collector_dies_and_its_deletion_comes_late(world: World) -> None:
    _, collector = both(world, writer=False)
    run_until(collector, "delete ")
    collector.step(Order.DIE_LATE)
    play(world.collect())
    play(world.start(world.jobs[-1]))
    world.stage.carry_out(all=True)


def _deletion_is_not_answered_and_comes_late(world: World) -> None:
    _, collector = both(world, writer=False)
    run_until(collector, "delete ")
    collector.step(Order.FAIL_LATE)
    play(collector)
    play(world.start(world.jobs[-1]))
    world.stage.carry_out(all=True)


def _collection_comes_before_the_image_is_active(world: World) -> None:
    writer, collector = both(world)
    run_until(writer, "transaction hold")
    writer.step(Order.GO)
    play(collector)
    play(writer)


def _collector_dies_and_an_import_finishes_its_work(world: World) -> None:
    _, collector = both(world, writer=False)
    run_until(collector, "delete ")
    collector.step(Order.DIE_LATE)
    world.wait_quiet()
    play(world.start(world.jobs[-1]))
    assert len(world.images(ImageState.ACTIVE)) == 1


def _import_finishes_what_the_next_collector_is_about_to(world: World) -> None:
    _, collector = both(world, writer=False)
    run_until(collector, "delete ")
    collector.step(Order.DIE_BEFORE)
    world.wait_quiet()
    next_one = world.collect()
    run_until(next_one, "transaction begin")
    next_one.step(Order.GO)
    play(world.start(world.jobs[-1]))
    play(next_one)


def both(world: World, *, writer: bool = True) -> tuple[Any, Any]:
    """Garbage, an import of the same (or only its order), and a collector."""
    content = (0, None, 1)
    play(world.start(world.new_job(content)))
    world.delete_image(world.images(ImageState.ACTIVE)[0])
    job = world.new_job(content)
    return world.start(job) if writer else None, world.collect()


def run_until(actor: Any, label: str) -> None:
    """Until it waits before a call of that kind."""
    while not actor.label.startswith(label):
        assert not actor.ended, f"{actor.name} never came to {label!r}"
        actor.step(Order.GO)


SCHEDULES: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[World], None]]] = [
    (_forgets_deletions, _import_sees_what_is_deleted_then),
    (_reads_references_once, _image_is_made_between_look_and_publication),
    (_deletes_what_was_taken_back, _disk_is_held_before_the_grant),
    (_takes_nothing_back, _disk_is_held_before_the_grant),
    (_settles_before_it_deletes, _import_comes_while_it_is_deleted),
    (_does_not_wait_for_the_dead, _collector_dies_and_its_deletion_comes_late),
    (_believes_what_was_not_answered, _deletion_is_not_answered_and_comes_late),
    (_holds_nothing, _collection_comes_before_the_image_is_active),
]


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    shutil.copy(template, tmp_path / "catalog.db")
    world = World(open_engine(f"sqlite:///{tmp_path / 'catalog.db'}"), tmp_path)
    monkeypatch.setattr(ledgers, "catalog", world.catalog)
    yield world
    world.stage.close()
    world.engine.dispose()


def story(world: World, schedule: Callable[[World], None]) -> None:
    """The schedule, then whoever was refused tries again when all is quiet."""
    schedule(world)
    world.check()
    world.wait_quiet()
    play(world.collect())
    play(world.start(world.jobs[-1]))
    world.check()
    assert len(world.images(ImageState.ACTIVE)) == 1


HARD = dict.fromkeys(
    [
        *(schedule for _, schedule in SCHEDULES),
        _collector_dies_and_an_import_finishes_its_work,
        _import_finishes_what_the_next_collector_is_about_to,
    ]
)


@pytest.mark.parametrize("schedule", HARD, ids=lambda each: each.__name__[1:])
def test_hard_moments_lose_nothing(world: World, schedule: Callable[[World], None]) -> None:
    story(world, schedule)


@pytest.mark.parametrize(("flaw", "schedule"), SCHEDULES, ids=lambda each: each.__name__[1:])
def test_protocol_that_lacks_one_thing_loses_an_image(
    world: World,
    flaw: Callable[[pytest.MonkeyPatch], None],
    schedule: Callable[[World], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flaw(monkeypatch)
    with pytest.raises((Missing, AssertionError)):
        story(world, schedule)
