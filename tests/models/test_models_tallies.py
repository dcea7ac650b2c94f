"""Sums of attempts: what is counted, once each, and that nothing lowers them; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from catalog_rows import Catalog, race
from sqlmodel import Session, col, select

from models.images import delete_image
from models.operations import Begun, Owner, Request, begin_operation, bind_subject, fail, finish
from models.tables import Operation, utc_now
from models.tallies import BOUNDS, list_tallies
from models.trail import Actor
from models.vocabulary import Outcome

ME, OTHER = Owner("here", 10, "100"), Owner("here", 11, "101")


def begin(session: Session, key: str, *, kind: str = "import", owner: Owner = ME) -> Begun:
    request = Request(kind=kind, account="alice", key=key)
    return begin_operation(session, request=request, owner=owner, is_alive=lambda _: False)


def end(session: Session, begun: Begun, *, failed: bool = False) -> None:
    assert begun.lease is not None
    if failed:
        fail(session, lease=begun.lease, code="defect", message="broken")
    else:
        finish(session, lease=begun.lease, result={})


def aged(begun: Begun, seconds: float) -> Begun:
    begun.operation.begun_at = utc_now() - timedelta(seconds=seconds)
    return begun


def counted(catalog: Catalog) -> dict[tuple[str, str], int]:
    with catalog.read() as session:
        return {(tally.kind, tally.outcome.value): tally.ended for tally in list_tallies(session)}


def test_every_attempt_is_counted_by_its_outcome(catalog: Catalog) -> None:
    with catalog.write() as session:
        end(session, begin(session, "a"), failed=True)
        end(session, begin(session, "a"))
        begin(session, "b")
        end(session, begin(session, "b", owner=OTHER))
        begin(session, "c", kind="launch")
    assert counted(catalog) == {("import", "done"): 2, ("import", "failed"): 1, ("import", "lost"): 1}


def test_attempt_that_is_taken_back_is_not_counted(catalog: Catalog) -> None:
    with catalog.write() as session:
        end(session, begin(session, "a"))
        session.rollback()
    assert counted(catalog) == {}


@pytest.mark.parametrize(("seconds", "place"), [(0, 0), (0.9, 0), (2, 1), (59, 4), (5 * 3600, len(BOUNDS))])
def test_duration_is_in_the_first_bound_that_holds_it(catalog: Catalog, seconds: float, place: int) -> None:
    with catalog.write() as session:
        end(session, aged(begin(session, "a"), seconds))
    with catalog.read() as session:
        tally = list_tallies(session)[0]
    assert tally.spread.index(1) == place
    assert sum(tally.spread) == 1
    assert seconds <= tally.seconds < seconds + 0.5


def test_time_between_attempts_is_no_duration(catalog: Catalog) -> None:
    with catalog.write() as session:
        end(session, begin(session, "a"), failed=True)
        session.exec(select(Operation)).one().begun_at = utc_now() - timedelta(days=3)
    with catalog.write() as session:
        end(session, begin(session, "a"))
    with catalog.read() as session:
        assert list_tallies(session)[0].seconds < 5


def test_bytes_of_a_made_image_are_counted_once_and_stay_after_its_deletion(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        begun = begin(session, "a")
        assert begun.lease is not None
        bind_subject(session, lease=begun.lease, subject_id=image.id)
        end(session, begun)
        delete_image(session, image_id=image.id, by=Actor("alice"))
    with catalog.read() as session:
        tally = list_tallies(session)[0]
    assert (tally.data_bytes, tally.stored_bytes, tally.new_bytes) == (8, 4, 2)


@pytest.mark.parametrize("failed", [False, True])
def test_attempts_that_end_at_once_are_all_counted(catalog: Catalog, failed: bool) -> None:
    with catalog.write() as session:
        begun = [begin(session, str(number)) for number in range(6)]

    def ending(one: Begun) -> None:
        with catalog.write() as session:
            end(session, one, failed=failed)

    assert race([lambda one=one: ending(one) for one in begun]) == [None] * 6
    assert counted(catalog) == {("import", "failed" if failed else "done"): 6}


def test_catalog_that_had_no_sums_begins_with_what_it_knows(catalog: Catalog) -> None:
    from alembic import command
    from alembic.config import Config

    with catalog.write() as session:
        image = catalog.active(session)
        begun = begin(session, "a")
        assert begun.lease is not None
        bind_subject(session, lease=begun.lease, subject_id=image.id)
        end(session, begun)
        end(session, begin(session, "b", kind="launch"), failed=True)
        session.exec(select(Operation).where(col(Operation.kind) == "launch")).one().created_at = utc_now() - timedelta(hours=2)
        begin(session, "c", kind="scan")
    config = Config()
    config.set_main_option("script_location", "models:migrations")
    with catalog.write() as session:
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "0003")
        command.upgrade(config, "head")
    with catalog.read() as session:
        done, failed = list_tallies(session)
    assert (done.kind, done.outcome, done.ended, done.new_bytes) == ("import", Outcome.DONE, 1, 2)
    assert (failed.kind, failed.outcome, failed.spread[BOUNDS.index(14400)]) == ("launch", Outcome.FAILED, 1)
