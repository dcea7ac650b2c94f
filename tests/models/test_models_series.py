"""Series of images: whose they are, what retention chooses, and their sums, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from catalog_rows import Catalog
from sqlmodel import Session

from models.exceptions import FieldInvalid
from models.image_changes import fail_image, set_active, set_protected
from models.images import delete_image
from models.series import Retention, images_of_series, list_series, surplus
from models.tables import Ecs, Image, utc_now
from models.trail import Actor

ALICE = Actor("alice")
NOW = utc_now()


class Nights:
    """An ECS of alice, and short ways to the images captured from it in series `nightly`."""

    def __init__(self, catalog: Catalog, session: Session) -> None:
        self.catalog, self.session = catalog, session
        self.ecs = self.building("web")

    def building(self, name: str, image: Image | None = None, owner: str = "alice") -> Ecs:
        image = image or self.catalog.active(self.session, "base", owner=owner)
        return self.catalog.building(self.session, image, owner=owner, name=name)

    def image(self, age: int, *, owner: str = "alice", series: str = "nightly", ecs: Ecs | None = None) -> Image:
        """An active one, captured `age` days ago."""
        return self._placed(self.catalog.active(self.session, f"day-{age}", owner=owner), age, series, ecs)

    def queued(self, age: int) -> Image:
        return self._placed(self.catalog.queued(self.session, f"queued-{age}"), age, "nightly", None)

    def failed(self, age: int) -> Image:
        image = self.queued(age)
        fail_image(self.session, image=image, code="defect", message="", by=ALICE)
        image.name = f"failed-{age}"
        return image

    def _placed(self, image: Image, age: int, series: str, ecs: Ecs | None) -> Image:
        image.created_at, image.series = NOW - timedelta(days=age), series
        image.source_ecs_id = (ecs or self.ecs).id
        self.session.flush()
        return image

    def chosen(self, keep: int, *, account: str = "alice") -> Retention:
        self.session.flush()
        return surplus(self.session, account=account, series="nightly", source_ecs_id=self.ecs.id, keep=keep, lock=True)

    def doomed(self, keep: int) -> list[str]:
        return [image.name for image in self.chosen(keep).surplus]

    def reasons(self, keep: int) -> dict[str, str]:
        return {kept.image.name: kept.reason for kept in self.chosen(keep).kept}


@pytest.fixture
def nights(catalog: Catalog) -> Iterator[Nights]:
    with catalog.write() as session:
        yield Nights(catalog, session)


def test_series_is_newest_first_and_its_own(nights: Nights) -> None:
    for age in (2, 1, 3):
        nights.image(age)
    nights.image(4, series="weekly")
    nights.image(5, ecs=nights.building("db"))
    nights.image(6, owner="bob")
    delete_image(nights.session, image_id=nights.image(7).id, by=ALICE)
    own = images_of_series(nights.session, account="alice", series="nightly", source_ecs_id=nights.ecs.id)
    assert [image.name for image in own] == ["day-1", "day-2", "day-3"]


def test_what_is_beyond_the_newest_ones_is_surplus(nights: Nights) -> None:
    for age in range(5):
        nights.image(age)
    assert nights.doomed(3) == ["day-3", "day-4"]
    assert nights.doomed(5) == []
    assert nights.reasons(2) == {"day-0": "one of the newest 2", "day-1": "one of the newest 2"}


def test_deactivated_images_count_and_go(nights: Nights) -> None:
    images = [nights.image(age) for age in range(4)]
    for image in (images[1], images[3]):
        set_active(nights.session, image_id=image.id, active=False, by=ALICE)
    assert nights.doomed(2) == ["day-2", "day-3"]


def test_newest_active_image_stays_behind_deactivated_ones(nights: Nights) -> None:
    images = [nights.image(age) for age in range(3)]
    set_active(nights.session, image_id=images[0].id, active=False, by=ALICE)
    assert nights.doomed(1) == ["day-2"]
    assert nights.reasons(1)["day-1"] == "the newest active one"


def test_image_in_error_goes_once_a_newer_one_is_active(nights: Nights) -> None:
    nights.failed(0)
    nights.image(1)
    nights.failed(2)
    assert nights.doomed(7) == ["failed-2"]
    assert nights.reasons(7)["failed-0"] == "in error, and nothing newer is active"


def test_series_without_an_active_image_loses_nothing(nights: Nights) -> None:
    for age in range(3):
        nights.failed(age)
    assert nights.doomed(1) == []


def test_protected_unfinished_and_launching_images_stay(nights: Nights) -> None:
    nights.image(0)
    nights.queued(5)
    protected, launching, failed = nights.image(1), nights.image(2), nights.failed(3)
    for image in (protected, failed):
        set_protected(nights.session, image_id=image.id, protected=True, by=ALICE)
    nights.building("clone", launching)
    assert nights.doomed(1) == []
    assert nights.reasons(1) == {
        "day-0": "one of the newest 1",
        "day-1": "protected",
        "day-2": "an ECS is being launched from it",
        "failed-3": "protected",
        "queued-5": "unfinished",
    }


def test_stranger_has_nothing_to_delete(nights: Nights) -> None:
    for age in range(3):
        nights.image(age)
    chosen = nights.chosen(1, account="bob")
    assert (list(chosen.kept), list(chosen.surplus)) == ([], [])


def test_keep_below_one_is_refused(nights: Nights) -> None:
    with pytest.raises(FieldInvalid, match="keep"):
        nights.chosen(0)


def test_sums_are_by_series_and_ecs(nights: Nights) -> None:
    other = nights.building("db")
    for age in (1, 2, 3):
        nights.image(age)
    nights.image(4, series="weekly")
    nights.image(5, ecs=other)
    nights.image(6, owner="bob")
    nights.queued(9)
    sums = list_series(nights.session, account="alice")
    assert [(it.series, it.ecs, it.images, it.bytes_stored) for it in sums] == [
        ("nightly", "db", 1, 4),
        ("nightly", "web", 4, 12),
        ("weekly", "web", 1, 4),
    ]
    assert {type(it.bytes_stored) for it in sums} == {int}
    assert (sums[1].ecs_id, sums[1].newest, sums[1].oldest) == (nights.ecs.id, NOW - timedelta(days=1), NOW - timedelta(days=9))


def test_sums_name_no_ecs_of_somebody_else(nights: Nights) -> None:
    nights.image(1, owner="bob")
    (own,) = list_series(nights.session, account="bob")
    assert (own.ecs_id, own.ecs) == (nights.ecs.id, "")
