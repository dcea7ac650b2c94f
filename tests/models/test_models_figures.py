"""What the catalog says of itself in numbers, and of runs; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from catalog_rows import Catalog
from product_rows import Products
from sqlmodel import Session

from models import figures
from models.images import delete_image
from models.operations import Owner, Request, begin_operation, fail, finish
from models.runs import Run, done_runs, oldest_unfinished, paces
from models.sharing import accept_share, share_image
from models.tables import utc_now
from models.trail import Actor
from models.vocabulary import OperationState

NOW = utc_now()


def operation(session: Session, key: str, *, kind: str = "import") -> str:
    request = Request(kind=kind, account="alice", key=key)
    begun = begin_operation(session, request=request, owner=Owner("here", 1, "1"), is_alive=lambda _: True)
    assert begun.lease is not None
    if key.startswith("done"):
        finish(session, lease=begun.lease, result={})
    if key.startswith("failed"):
        fail(session, lease=begun.lease, code="defect", message="broken")
    return begun.operation.id


def run(seconds: float, *, kind: str = "import") -> Run:
    ended = NOW + timedelta(seconds=seconds)
    return Run("id", kind, "alice", OperationState.DONE, None, NOW, ended)


def test_images_are_counted_by_the_widest_circle_that_may_launch_them(catalog: Catalog) -> None:
    with catalog.write() as session:
        products = Products(catalog, session)
        products.listed()
        products.in_review(title="Other")
        catalog.public(session)
        shared = catalog.active(session, "shared", digest="b" * 64)
        offered = catalog.active(session, "offered", digest="c" * 64)
        share_image(session, image_id=offered.id, accounts=["bob"], by=Actor("alice"))
        share_image(session, image_id=shared.id, accounts=["bob"], by=Actor("alice"))
        accept_share(session, image_id=shared.id, by=Actor("bob"))
        catalog.queued(session, "queued")
        delete_image(session, image_id=catalog.active(session, "gone").id, by=Actor("alice"))
        told = {(count.type.value, count.state.value): count.images for count in figures.count_images(session)}
    assert told == {
        ("marketplace", "active"): 1,
        ("private", "active"): 2,
        ("private", "queued"): 1,
        ("public", "active"): 1,
        ("shared", "active"): 1,
    }


def test_bytes_are_of_images_that_are_not_deleted(catalog: Catalog) -> None:
    with catalog.write() as session:
        assert figures.sum_bytes(session) == figures.Bytes(0, 0, 0)
        catalog.active(session)
        catalog.active(session, "second", owner="bob")
        delete_image(session, image_id=catalog.active(session, "gone").id, by=Actor("alice"))
        assert figures.sum_bytes(session) == figures.Bytes(4 << 30, 16, 8)


def test_largest_holders_come_first_and_images_without_disks_count(catalog: Catalog) -> None:
    with catalog.write() as session:
        for name in ("one", "two"):
            catalog.active(session, name, owner="bob")
        catalog.active(session)
        catalog.queued(session, "queued", owner="admin")
        told = figures.largest_holders(session)
    expected = [("bob", 2, 16, 8), ("alice", 1, 8, 4), ("admin", 1, 0, 0)]
    assert told == [figures.Holder(*each) for each in expected]


def test_ecs_are_counted_by_host_and_state(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        catalog.building(session, image)
        catalog.building(session, image, name="web-2").host = "there"
        told = [(count.host, count.state.value, count.ecs) for count in figures.count_ecs(session)]
    assert told == [("here", "building", 1), ("there", "building", 1)]


def test_operations_under_way_and_failed_ones_are_counted(catalog: Catalog) -> None:
    with catalog.write() as session:
        for key in ("running-1", "running-2", "done", "failed"):
            operation(session, key)
        operation(session, "running", kind="launch")
        told = [(running.kind, running.operations) for running in figures.count_running(session)]
        oldest = figures.count_running(session)[0].oldest
        assert figures.count_failed(session) == 1
    assert told == [("import", 2), ("launch", 1)]
    assert (utc_now() - oldest).total_seconds() < 60


def test_runs_that_were_done_since_are_told_newest_first(catalog: Catalog) -> None:
    with catalog.write() as session:
        first, second = operation(session, "done-1"), operation(session, "done-2")
        operation(session, "failed")
        running = operation(session, "running")
        assert [each.id for each in done_runs(session, since=NOW)] == [second, first]
        assert done_runs(session, since=utc_now() + timedelta(minutes=1)) == []
        assert [(each.id, each.seconds) for each in oldest_unfinished(session, limit=5)] == [(running, 0.0)]


@pytest.mark.parametrize(("seconds", "told"), [([7], (7, 7, 7)), (list(range(1, 101)), (50.5, 95, 100)), ([1, 2], (1.5, 2, 2))])
def test_pace_of_a_kind(seconds: list[int], told: tuple[float, ...]) -> None:
    pace = paces([run(each) for each in reversed(seconds)])[0]
    assert (pace.median, pace.p95, pace.slowest) == told


def test_slowest_kind_comes_first() -> None:
    assert [pace.kind for pace in paces([run(1), run(9, kind="launch")])] == ["launch", "import"]
