"""Sight, lists and deletion of images, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from catalog_rows import Catalog, race
from sqlmodel import Session

from models.exceptions import DeletionRefused, FieldInvalid, NameInvalid, NotVisible, TransitionRefused
from models.facts import GuestFacts
from models.image_changes import set_deprecated, set_hidden, set_protected
from models.images import ImageFilter, NewImage, create_image, delete_image, get_image, list_images, own_image
from models.states import transition
from models.tables import Ecs, Image, new_id, utc_now
from models.trail import Actor
from models.vocabulary import Architecture, BootMode, ImageState, ImageType

ADMIN, ALICE, BOB = Actor("admin"), Actor("alice"), Actor("bob")


def names(session: Session, account: str, chosen: ImageFilter | None = None) -> list[str]:
    return [image.name for image in list_images(session, account=account, chosen=chosen).rows]


def test_created_image_keeps_what_was_asked(catalog: Catalog) -> None:
    declared = GuestFacts(os_distro="debian", architecture=Architecture.X86_64, boot_mode=BootMode.UEFI)
    new = NewImage(name="web 1.0", size=5, tags=["b", "a", "b"], properties={"team": "é"}, declared=declared)
    with catalog.write() as session:
        created = create_image(session, new=new, by=ALICE)
    with catalog.read() as session:
        image = get_image(session, account="alice", image_id=created.id)
    assert (image.name, image.state, image.owner) == ("web 1.0", ImageState.QUEUED, "alice")
    assert (image.tags, image.properties) == (["b", "a"], {"team": "é"})
    assert image.declared == {"os_distro": "debian", "architecture": "x86_64", "boot_mode": "uefi"}
    assert (image.os_distro, image.architecture, image.boot_mode) == ("debian", "x86_64", "uefi")


@pytest.mark.parametrize(
    "new",
    [
        NewImage(name=" web", size=1),
        NewImage(name="web", size=-1),
        NewImage(name="web", size=1, description="<b>"),
        NewImage(name="web", size=1, tags=[str(number) for number in range(51)]),
        NewImage(name="web", size=1, checksum="md5:0"),
        NewImage(name="web", size=1, source="a\udcffb"),
        NewImage(name="web", size=1, min_disk_gib=-1),
    ],
)
def test_value_against_its_rule_is_refused(catalog: Catalog, new: NewImage) -> None:
    with pytest.raises(FieldInvalid), catalog.write() as session:
        create_image(session, new=new, by=ALICE)


def test_name_against_the_rule_says_so(catalog: Catalog) -> None:
    with pytest.raises(NameInvalid), catalog.write() as session:
        create_image(session, new=NewImage(name="a/b", size=1), by=ALICE)


@pytest.mark.parametrize("look", [get_image, own_image])
def test_another_accounts_image_is_as_absent_as_an_unknown_one(catalog: Catalog, look: Callable[..., Image]) -> None:
    with catalog.write() as session:
        image_id = catalog.active(session).id
        for account, wanted in (("bob", image_id), ("alice", new_id()), ("alice", "no id"), ("alice", "x' OR '1'='1")):
            with pytest.raises(NotVisible) as caught:
                look(session, account=account, image_id=wanted)
            assert (caught.value.kind, caught.value.name) == ("image", wanted)


def test_public_image_is_seen_by_all_and_changed_by_its_owner(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.public(session)
        assert get_image(session, account="bob", image_id=image.id).id == image.id
        with pytest.raises(NotVisible):
            delete_image(session, image_id=image.id, by=BOB)


def test_public_image_not_active_is_its_owners_alone(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.public(session)
        transition(session, subject=image, new=ImageState.DEACTIVATED, by=ADMIN)
        assert get_image(session, account="admin", image_id=image.id).public
        with pytest.raises(NotVisible):
            get_image(session, account="bob", image_id=image.id)


def test_list_shows_own_and_public_newest_first(catalog: Catalog) -> None:
    with catalog.write() as session:
        catalog.queued(session, "first")
        catalog.queued(session, "bobs", owner="bob")
        catalog.public(session, "public")
        catalog.active(session, "last")
    with catalog.read() as session:
        assert names(session, "alice") == ["last", "public", "first"]
        assert names(session, "alice", ImageFilter(type=ImageType.PUBLIC)) == ["public"]
        assert names(session, "alice", ImageFilter(type=ImageType.PRIVATE)) == ["last", "first"]
        assert names(session, "alice", ImageFilter(state=ImageState.QUEUED)) == ["first"]
        assert names(session, "alice", ImageFilter(name="bobs")) == []


def test_list_omits_hidden_and_deprecated_unless_asked(catalog: Catalog) -> None:
    with catalog.write() as session:
        for name, days in (("soon", 1), ("gone", -1)):
            image = catalog.queued(session, name)
            set_deprecated(session, image_id=image.id, at=utc_now() + timedelta(days=days), by=ALICE)
        set_hidden(session, image_id=catalog.queued(session, "hidden").id, hidden=True, by=ALICE)
    with catalog.read() as session:
        assert names(session, "alice") == ["soon"]
        assert names(session, "alice", ImageFilter(everything=True)) == ["hidden", "gone", "soon"]


def test_pages_cover_every_image_once(catalog: Catalog) -> None:
    with catalog.write() as session:
        moment = utc_now()
        for number in range(7):
            catalog.queued(session, str(number)).created_at = moment - timedelta(seconds=number // 3)
    seen, after = [], None
    with catalog.read() as session:
        for _ in range(4):
            page = list_images(session, account="alice", after=after, limit=2)
            seen += [image.name for image in page.rows]
            after = page.after
    assert after is None
    assert sorted(seen) == list("0123456")
    assert [set(seen[:3]), set(seen[3:6]), set(seen[6:])] == [set("012"), set("345"), set("6")]


@pytest.mark.parametrize("after", ["", "yesterday", "2026-01-01/x", "2026-01-01T00:00:00"])
def test_page_after_a_place_that_never_was_is_refused(catalog: Catalog, after: str) -> None:
    with pytest.raises(FieldInvalid), catalog.read() as session:
        list_images(session, account="alice", after=after)


def test_deleted_image_leaves_a_tombstone_nobody_sees(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        delete_image(session, image_id=image.id, by=ALICE)
        assert names(session, "alice") == []
        with pytest.raises(NotVisible):
            delete_image(session, image_id=image.id, by=ALICE)
    with catalog.read() as session:
        tombstone = session.get_one(Image, image.id)
    assert (tombstone.state, tombstone.deleted_at is None) == (ImageState.DELETED, False)


def test_protected_image_is_not_deleted(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        set_protected(session, image_id=image.id, protected=True, by=ALICE)
        with pytest.raises(DeletionRefused, match="protected"):
            delete_image(session, image_id=image.id, by=ALICE)
        set_protected(session, image_id=image.id, protected=False, by=ALICE)
        delete_image(session, image_id=image.id, by=ALICE)


def test_image_of_an_unfinished_launch_is_not_deleted(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
        catalog.building(session, image)
        with pytest.raises(DeletionRefused, match="in_use"):
            delete_image(session, image_id=image.id, by=ALICE)


def test_racing_launch_and_deletion_have_one_winner(catalog: Catalog) -> None:
    with catalog.write() as session:
        images = [catalog.active(session) for _ in range(10)]

    def launch(image: Image) -> None:
        with catalog.write() as session:
            catalog.building(session, image)

    def delete(image: Image) -> None:
        with catalog.write() as session:
            delete_image(session, image_id=image.id, by=ALICE)

    for image in images:
        refusals = race([lambda image=image: launch(image), lambda image=image: delete(image)])
        assert refusals.count(None) == 1
        assert any(isinstance(refusal, DeletionRefused | NotVisible | TransitionRefused) for refusal in refusals)
    with catalog.read() as session:
        kept = sum(session.get_one(Image, image.id).state is ImageState.ACTIVE for image in images)
        assert kept == catalog.count(session, Ecs)


def test_parent_must_be_visible(catalog: Catalog) -> None:
    with catalog.write() as session:
        parent = catalog.active(session)
        child = NewImage(name="child", size=1, parent_image_id=parent.id)
        assert create_image(session, new=child, by=ALICE).parent_image_id == parent.id
        with pytest.raises(NotVisible):
            create_image(session, new=child, by=BOB)
