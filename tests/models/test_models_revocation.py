"""Revocation: whose images, what the marketplace offers of them, and which ECSs run them, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from catalog_rows import Catalog
from product_rows import ADMIN, ALICE, BOB, Products

from models.ecs import delete_ecs
from models.exceptions import ImageRefused, NotVisible
from models.image_changes import set_active
from models.images import delete_image
from models.revocation import images_to_revoke, restore_image, revoke_image, running_ecs
from models.sharing import accept_share, share_image
from models.tables import Image, new_id
from models.trail import Actor
from models.vocabulary import ImageState, WithdrawnFor


class Family(Products):
    """Images that descend from each other: alice's base, hers and bob's children of it, her grandchild by bob's."""

    def __init__(self, catalog: Catalog) -> None:
        self.scope = catalog.write()
        super().__init__(catalog, self.scope.__enter__())
        self.base = self.active("base")
        self.own = self.active("own", self.base)
        self.bobs = self.active("bobs", self.base, owner="bob")
        self.below = self.active("below", self.bobs)

    def active(self, name: str, parent: Image | None = None, *, owner: str = "alice") -> Image:
        image = self.catalog.active(self.session, name, owner=owner)
        image.parent_image_id = parent.id if parent else None
        self.session.flush()
        return image

    def chosen(self, account: str, image: Image, *, descendants: bool = True) -> list[str]:
        """Names of what would be revoked."""
        ids = images_to_revoke(self.session, account=account, image_id=image.id, descendants=descendants)
        return [self.session.get_one(Image, image_id).name for image_id in ids]

    def running(self, account: str, *images: Image) -> list[str]:
        rows = running_ecs(self.session, account=account, image_ids=[image.id for image in images])
        return [row.name for row in rows]


@pytest.fixture
def family(catalog: Catalog) -> Iterator[Family]:
    made = Family(catalog)
    yield made
    made.scope.__exit__(None, None, None)


def test_owner_revokes_its_own_images_parents_first(family: Family) -> None:
    assert family.chosen("alice", family.base, descendants=False) == ["base"]
    assert family.chosen("alice", family.base) == ["base", "own", "below"]
    assert family.chosen("bob", family.bobs) == ["bobs"]


def test_operator_revokes_everybodys(family: Family) -> None:
    assert family.chosen("admin", family.base) == ["base", "own", "bobs", "below"]


def test_image_that_the_account_does_not_own_is_not_revoked(family: Family) -> None:
    share_image(family.session, image_id=family.base.id, accounts=["bob"], by=ALICE)
    accept_share(family.session, image_id=family.base.id, by=BOB)
    with pytest.raises(NotVisible):
        family.chosen("bob", family.base)
    with pytest.raises(NotVisible):
        revoke_image(family.session, image_id=family.base.id, by=BOB)


def test_deleted_and_unknown_images_are_not_revoked(family: Family) -> None:
    delete_image(family.session, image_id=family.own.id, by=ALICE)
    assert family.chosen("alice", family.base) == ["base", "below"]
    for account in ("alice", "admin"):
        for image_id in (family.own.id, new_id()):
            with pytest.raises(NotVisible):
                images_to_revoke(family.session, account=account, image_id=image_id, descendants=True)
            with pytest.raises(NotVisible):
                revoke_image(family.session, image_id=image_id, by=Actor(account))


def test_revoked_image_is_deactivated_once(family: Family) -> None:
    assert revoke_image(family.session, image_id=family.base.id, by=ALICE)
    assert family.base.state is ImageState.DEACTIVATED
    assert not revoke_image(family.session, image_id=family.base.id, by=ALICE)


def test_operator_revokes_anothers_image(family: Family) -> None:
    assert revoke_image(family.session, image_id=family.bobs.id, by=ADMIN)
    assert family.bobs.state is ImageState.DEACTIVATED


@pytest.mark.parametrize("by", [ALICE, ADMIN])
def test_versions_of_a_revoked_image_are_withdrawn_for_all(family: Family, by: Actor) -> None:
    listed, narrowed = family.listed("1", image=family.base), family.listed("2", image=family.base)
    waiting, other = family.in_review("3", image=family.base), family.listed("4", image=family.own)
    family.withdraw(narrowed, WithdrawnFor.NEW)
    assert revoke_image(family.session, image_id=family.base.id, by=by)
    for version in (listed, narrowed, waiting):
        family.session.refresh(version)
        assert (version.state, version.withdrawn_for) == ("withdrawn", "all")
    assert other.state == "listed"


def test_revocation_goes_on_where_it_was_interrupted(family: Family) -> None:
    version = family.listed(image=family.base)
    family.base.state = ImageState.DEACTIVATED
    family.session.flush()
    assert revoke_image(family.session, image_id=family.base.id, by=ALICE)
    family.session.refresh(version)
    assert version.state == "withdrawn"


def test_subscribers_launch_no_more_of_it(family: Family) -> None:
    version = family.listed(image=family.base)
    family.subscribe(version)
    family.launch(version)
    revoke_image(family.session, image_id=family.base.id, by=ALICE)
    with pytest.raises(NotVisible):
        family.launch(version)


def test_running_ecs_are_the_accounts_own_or_everybodys_to_an_operator(family: Family) -> None:
    version = family.listed(image=family.base)
    family.subscribe(version)
    family.catalog.building(family.session, family.base, name="hers")
    family.catalog.building(family.session, family.base, name="his", owner="bob")
    gone = family.catalog.building(family.session, family.own, name="gone")
    family.catalog.building(family.session, family.own, name="child")
    delete_ecs(family.session, ecs=gone, by=ALICE)
    revoke_image(family.session, image_id=family.base.id, by=ALICE)
    assert family.running("alice", family.base, family.own) == ["child", "hers"]
    assert family.running("bob", family.base, family.own) == ["his"]
    assert family.running("admin", family.base, family.own) == ["child", "hers", "his"]
    assert family.running("admin", family.bobs) == []


def test_owner_takes_its_own_revocation_back_but_not_an_operators(family: Family) -> None:
    revoke_image(family.session, image_id=family.base.id, by=ALICE)
    assert set_active(family.session, image_id=family.base.id, active=True, by=ALICE).state is ImageState.ACTIVE
    revoke_image(family.session, image_id=family.base.id, by=ADMIN)
    with pytest.raises(ImageRefused, match="admin revoked it"):
        set_active(family.session, image_id=family.base.id, active=True, by=ALICE)
    for by in (ALICE, BOB):
        with pytest.raises(NotVisible):
            restore_image(family.session, image_id=family.base.id, by=by)
    assert restore_image(family.session, image_id=family.base.id, by=ADMIN).revoked_by is None
    assert set_active(family.session, image_id=family.base.id, active=False, by=ALICE).state is ImageState.DEACTIVATED


def test_operator_holds_what_its_owner_deactivated_before(family: Family) -> None:
    set_active(family.session, image_id=family.own.id, active=False, by=ALICE)
    assert not revoke_image(family.session, image_id=family.own.id, by=ADMIN)
    with pytest.raises(ImageRefused):
        set_active(family.session, image_id=family.own.id, active=True, by=ALICE)
