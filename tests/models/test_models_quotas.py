"""Exact limits, also under fifty writers, on both databases."""

from __future__ import annotations

import pytest
from catalog_rows import Catalog, race, system_disk

from models.accounts import Limits
from models.exceptions import NotVisible, QuotaReached
from models.image_changes import activate_image, fail_image, record_disk, requeue_image
from models.images import NewImage, create_image, delete_image
from models.quotas import Usage, reserve_image, usage
from models.states import transition
from models.tables import Account, Image
from models.trail import Actor
from models.vocabulary import ImageState

CAROL = Actor("carol")


@pytest.fixture
def limited(catalog: Catalog) -> Catalog:
    """Account carol: three images, two creations at once, 100 bytes."""
    with catalog.write() as session:
        catalog.account(session, "carol", limits=Limits(max_images=3, max_creations=2, max_bytes=100))
    return catalog


def test_defaults_are_those_of_the_service(catalog: Catalog) -> None:
    with catalog.read() as session:
        alice = session.get_one(Account, "alice")
    assert (alice.max_images, alice.max_creations, alice.max_bytes) == (50, 40, 10 << 40)


def test_creations_beyond_the_limit_are_refused(limited: Catalog) -> None:
    with limited.write() as session:
        for _ in range(2):
            limited.queued(session, owner="carol")
        with pytest.raises(QuotaReached) as caught:
            limited.queued(session, owner="carol")
    assert (caught.value.name, caught.value.limit, caught.value.used) == ("creations", 2, 2)


def test_images_beyond_the_limit_are_refused(limited: Catalog) -> None:
    with limited.write() as session:
        for _ in range(3):
            limited.active(session, owner="carol")
        with pytest.raises(QuotaReached, match="images"):
            limited.queued(session, owner="carol")


def test_bytes_beyond_the_limit_are_refused(limited: Catalog) -> None:
    with limited.write() as session:
        limited.queued(session, owner="carol", size=60)
        with pytest.raises(QuotaReached, match="bytes"):
            limited.queued(session, owner="carol", size=41)
        limited.queued(session, owner="carol", size=40)


def test_deletion_frees_everything(limited: Catalog) -> None:
    with limited.write() as session:
        image = limited.queued(session, owner="carol", size=100)
        assert usage(session, account="carol") == Usage(images=1, bytes=100, creations=1)
        delete_image(session, image_id=image.id, by=CAROL)
        assert usage(session, account="carol") == Usage(images=0, bytes=0, creations=0)


def test_activation_settles_the_bytes_reserved(limited: Catalog) -> None:
    with limited.write() as session:
        limited.active(session, owner="carol")
        assert usage(session, account="carol") == Usage(images=1, bytes=8, creations=0)


def test_activation_of_more_than_fits_is_refused(limited: Catalog) -> None:
    with limited.write() as session:
        limited.queued(session, owner="carol", size=90)
        image = limited.queued(session, owner="carol", size=5)
        for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
            transition(session, subject=image, new=state, by=CAROL)
        record_disk(session, image=image, facts=system_disk().model_copy(update={"data_bytes": 11}))
        with pytest.raises(QuotaReached) as caught:
            activate_image(session, image=image, by=CAROL)
    assert (caught.value.name, caught.value.used) == ("bytes", 95)


def test_failed_image_keeps_its_place_but_is_no_creation(limited: Catalog) -> None:
    with limited.write() as session:
        image = limited.queued(session, owner="carol", size=7)
        fail_image(session, image=image, code="store.unavailable", message="gone", by=CAROL)
        assert usage(session, account="carol") == Usage(images=1, bytes=7, creations=0)


def test_retry_of_a_failed_image_needs_a_free_creation(limited: Catalog) -> None:
    with limited.write() as session:
        image = limited.queued(session, owner="carol")
        fail_image(session, image=image, code="store.unavailable", message="gone", by=CAROL)
        others = [limited.queued(session, owner="carol") for _ in range(2)]
        with pytest.raises(QuotaReached, match="creations"):
            requeue_image(session, image=image, by=CAROL)
        delete_image(session, image_id=others[0].id, by=CAROL)
        requeue_image(session, image=image, by=CAROL)
    assert (image.state, image.error_code) == (ImageState.QUEUED, None)


def test_unknown_account_has_no_quota(catalog: Catalog) -> None:
    with pytest.raises(NotVisible), catalog.write() as session:
        reserve_image(session, account="nobody", size=1)


def test_fifty_creations_at_once_make_exactly_ten(catalog: Catalog) -> None:
    with catalog.write() as session:
        catalog.account(session, "carol", limits=Limits(max_images=10, max_creations=40, max_bytes=1000))

    def create() -> None:
        with catalog.write() as session:
            create_image(session, new=NewImage(name="web", size=1), by=CAROL)

    refusals = race([create] * 50)
    assert refusals.count(None) == 10
    assert sum(isinstance(refusal, QuotaReached) for refusal in refusals) == 40
    with catalog.read() as session:
        assert catalog.count(session, Image) == 10
