"""Shares: who may offer what, how it is answered, and every way in which a share ends, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from catalog_rows import Catalog
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, ImageRefused, MembersReached, NotVisible, TransitionRefused
from models.image_changes import set_active
from models.images import ImageFilter, get_image, image_type, list_images, own_image
from models.market_tables import Member
from models.sharing import (
    MAX_MEMBERS,
    accept_share,
    expire_member,
    expired_members,
    leave_share,
    list_members,
    list_offers,
    reject_share,
    share_image,
    withdraw_share,
)
from models.tables import Account, Audit, Image, new_id, utc_now
from models.trail import Actor
from models.vocabulary import ImageState, ImageType, MemberState

ADMIN, ALICE, BOB = Actor("admin"), Actor("alice"), Actor("bob")
HOUR = timedelta(hours=1)


class Shares:
    """An active image of alice's, and the shortest way to what becomes of it."""

    def __init__(self, catalog: Catalog, session: Session) -> None:
        self.catalog, self.session = catalog, session
        self.image = catalog.active(session)

    def offer(self, *accounts: str, hours: float | None = None) -> list[Member]:
        expires_at = utc_now() + hours * HOUR if hours is not None else None
        return share_image(self.session, image_id=self.image.id, accounts=accounts or ["bob"], expires_at=expires_at, by=ALICE)

    def accepted(self, *, hours: float | None = None) -> Member:
        self.offer(hours=hours)
        return accept_share(self.session, image_id=self.image.id, by=BOB)

    def reject(self) -> Member:
        return reject_share(self.session, image_id=self.image.id, by=BOB)

    def end(self, member: Member) -> None:
        """Let its time have come."""
        member.expires_at = utc_now() - HOUR
        self.session.add(member)
        self.session.flush()

    def listed(self, account: str = "bob", kind: ImageType | None = ImageType.SHARED) -> list[str]:
        return [image.id for image in list_images(self.session, account=account, chosen=ImageFilter(type=kind)).rows]

    def offers(self, state: MemberState = MemberState.PENDING) -> list[str]:
        return [offer.image.id for offer in list_offers(self.session, account="bob", state=state).rows]

    def launches(self) -> bool:
        """Whether bob's launch begins."""
        try:
            self.catalog.building(self.session, self.image, owner="bob")
        except NotVisible:
            return False
        return True

    def members(self) -> list[tuple[str, str]]:
        rows = list_members(self.session, account="alice", image_id=self.image.id)
        return [(row.account, row.state) for row in rows]

    def trail(self) -> list[tuple[str, str | None, str | None]]:
        """Who changed the shares from what to what."""
        query = select(Audit).where(Audit.kind == "member").order_by(col(Audit.id))
        return [(row.who, row.old, row.new) for row in self.session.exec(query)]


@pytest.fixture
def shares(catalog: Catalog) -> Iterator[Shares]:
    with catalog.write() as session:
        yield Shares(catalog, session)


def test_offer_is_not_listed_and_not_launched(shares: Shares) -> None:
    [member] = shares.offer()
    assert (member.state, member.owner, member.digest) == (MemberState.PENDING, "alice", shares.image.digest)
    assert shares.offers() == [shares.image.id]
    assert (shares.listed(), shares.launches()) == ([], False)


def test_accepted_share_is_listed_and_launched(shares: Shares) -> None:
    shares.accepted()
    assert shares.listed() == [shares.image.id]
    assert image_type(shares.session, account="bob", image=shares.image) is ImageType.SHARED
    assert shares.offers(MemberState.ACCEPTED) == [shares.image.id]
    assert shares.offers() == []
    assert shares.launches()


def test_rejected_share_is_hidden_until_it_is_accepted_after_all(shares: Shares) -> None:
    shares.offer()
    shares.reject()
    assert (shares.listed(), shares.launches()) == ([], False)
    assert shares.offers(MemberState.REJECTED) == [shares.image.id]
    accept_share(shares.session, image_id=shares.image.id, by=BOB)
    assert shares.listed() == [shares.image.id]
    shares.reject()
    assert (shares.listed(), shares.launches()) == ([], False)


def test_recipient_changes_nothing_of_the_image(shares: Shares) -> None:
    shares.accepted()
    with pytest.raises(NotVisible):
        own_image(shares.session, account="bob", image_id=shares.image.id)
    with pytest.raises(NotVisible):
        share_image(shares.session, image_id=shares.image.id, accounts=["admin"], by=BOB)


def test_share_that_was_left_needs_a_new_offer(shares: Shares) -> None:
    shares.accepted()
    leave_share(shares.session, image_id=shares.image.id, by=BOB)
    assert (shares.listed(), shares.launches(), shares.members()) == ([], False, [])
    for answer in (accept_share, reject_share, leave_share):
        with pytest.raises(NotVisible):
            answer(shares.session, image_id=shares.image.id, by=BOB)
    shares.accepted()
    assert shares.launches()


def test_withdrawn_share_launches_no_more_and_its_ecs_lives_on(shares: Shares) -> None:
    shares.accepted()
    ecs = shares.catalog.building(shares.session, shares.image, owner="bob")
    withdraw_share(shares.session, image_id=shares.image.id, accounts=["bob"], by=ALICE)
    assert (shares.listed(), shares.launches(), shares.members()) == ([], False, [])
    shares.session.refresh(ecs)
    assert ecs.state == "building"


def test_withdrawal_from_one_who_is_no_member_withdraws_from_none(shares: Shares) -> None:
    shares.offer()
    with pytest.raises(NotVisible):
        withdraw_share(shares.session, image_id=shares.image.id, accounts=["bob", "admin"], by=ALICE)
    assert shares.members() == [("bob", "pending")]


def test_share_ends_with_its_hour_before_any_schedule_looks(shares: Shares) -> None:
    member = shares.accepted(hours=1)
    assert shares.launches()
    shares.end(member)
    assert (shares.listed(), shares.offers(MemberState.ACCEPTED), shares.launches()) == ([], [], False)
    with pytest.raises(NotVisible):
        get_image(shares.session, account="bob", image_id=shares.image.id)
    with pytest.raises(NotVisible):
        accept_share(shares.session, image_id=shares.image.id, by=BOB)


def test_schedule_removes_shares_whose_hour_has_come(shares: Shares) -> None:
    member = shares.accepted(hours=1)
    assert expired_members(shares.session) == []
    assert not expire_member(shares.session, member=member, by=ADMIN)
    shares.end(member)
    [found] = expired_members(shares.session)
    assert expire_member(shares.session, member=found, by=ADMIN)
    assert shares.members() == []
    assert not expire_member(shares.session, member=found, by=ADMIN)


def test_offer_again_keeps_the_answer_and_moves_the_hour(shares: Shares) -> None:
    first = shares.accepted(hours=1).expires_at
    [member] = shares.offer(hours=2)
    assert first is not None
    assert member.expires_at is not None
    assert member.expires_at > first
    assert shares.offer()[0].expires_at is None
    assert shares.members() == [("bob", "accepted")]
    assert [(who, (new or "").partition("=")[0]) for who, _, new in shares.trail()] == [
        ("alice", "pending"),
        ("bob", "accepted"),
        ("alice", "expires_at"),
        ("alice", "expires_at"),
    ]


def test_share_that_ended_is_offered_anew(shares: Shares) -> None:
    shares.end(shares.accepted(hours=1))
    shares.offer(hours=2)
    assert (shares.listed(), shares.members()) == ([], [("bob", "pending")])


def test_accepted_digest_is_the_offered_one(shares: Shares) -> None:
    shares.offer()
    with pytest.raises(FieldInvalid, match="digest"):
        accept_share(shares.session, image_id=shares.image.id, digest="f" * 64, by=BOB)
    member = accept_share(shares.session, image_id=shares.image.id, digest=shares.image.digest, by=BOB)
    assert member.digest == shares.image.digest


def test_image_of_other_content_is_not_what_was_accepted(shares: Shares) -> None:
    shares.accepted()
    shares.image.digest = "f" * 64
    shares.session.flush()
    assert (shares.listed(), shares.offers(MemberState.ACCEPTED), shares.launches()) == ([], [], False)


def test_deactivated_image_is_seen_again_once_it_is_active(shares: Shares) -> None:
    shares.accepted()
    set_active(shares.session, image_id=shares.image.id, active=False, by=ALICE)
    assert (shares.listed(), shares.offers(MemberState.ACCEPTED), shares.launches()) == ([], [], False)
    set_active(shares.session, image_id=shares.image.id, active=True, by=ALICE)
    assert shares.launches()


def test_members_are_told_to_the_owner_alone(shares: Shares) -> None:
    shares.offer("bob", "admin")
    shares.reject()
    assert shares.members() == [("admin", "pending"), ("bob", "rejected")]
    for account in ("bob", "admin"):
        with pytest.raises(NotVisible):
            list_members(shares.session, account=account, image_id=shares.image.id)


def test_share_with_oneself_is_refused(shares: Shares) -> None:
    with pytest.raises(FieldInvalid, match="account"):
        shares.offer("bob", "alice")


def test_share_with_an_unknown_account_is_refused(shares: Shares) -> None:
    with pytest.raises(NotVisible, match="account 'nobody'"):
        shares.offer("nobody")


@pytest.mark.parametrize("hours", [0, -1])
def test_share_that_has_ended_before_it_begins_is_refused(shares: Shares, hours: float) -> None:
    with pytest.raises(FieldInvalid, match="expires_at"):
        shares.offer(hours=hours)


def test_public_image_is_not_shared(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.public(session)
        with pytest.raises(ImageRefused) as caught:
            share_image(session, image_id=image.id, accounts=["bob"], by=ADMIN)
    assert caught.value.reason == "public"


def test_licensed_image_is_not_shared(shares: Shares) -> None:
    shares.image.licences = [new_id()]
    shares.session.flush()
    with pytest.raises(ImageRefused) as caught:
        shares.offer()
    assert caught.value.reason == "licensed"


@pytest.mark.parametrize("state", [ImageState.QUEUED, ImageState.DEACTIVATED])
def test_image_that_is_not_active_is_not_shared(shares: Shares, state: ImageState) -> None:
    shares.image.state = state
    shares.session.flush()
    with pytest.raises(TransitionRefused):
        shares.offer()


def test_image_of_another_account_is_not_shared(shares: Shares) -> None:
    with pytest.raises(NotVisible):
        share_image(shares.session, image_id=shares.image.id, accounts=["admin"], by=BOB)


def test_member_beyond_the_limit_is_refused(shares: Shares) -> None:
    names = [f"member-{number}" for number in range(MAX_MEMBERS)]
    shares.session.add_all(Account(name=name) for name in names)
    shares.session.flush()
    assert len(shares.offer(*names, names[0])) == MAX_MEMBERS == 128
    shares.offer(names[5])
    with pytest.raises(MembersReached, match="128"):
        shares.offer()


def test_share_that_ended_leaves_room_for_another(shares: Shares) -> None:
    names = [f"member-{number}" for number in range(MAX_MEMBERS)]
    shares.session.add_all(Account(name=name) for name in names)
    shares.session.flush()
    shares.end(shares.offer(*names)[0])
    assert [member.account for member in shares.offer()] == ["bob"]


def test_trail_has_every_answer_and_every_end(shares: Shares) -> None:
    member = shares.accepted()
    shares.reject()
    leave_share(shares.session, image_id=shares.image.id, by=BOB)
    shares.offer()
    withdraw_share(shares.session, image_id=shares.image.id, accounts=["bob"], by=ALICE)
    member = shares.accepted(hours=1)
    shares.end(member)
    expire_member(shares.session, member=member, by=ADMIN)
    assert shares.trail() == [
        ("alice", None, "pending"),
        ("bob", "pending", "accepted"),
        ("bob", "accepted", "rejected"),
        ("bob", "rejected", "left"),
        ("alice", None, "pending"),
        ("alice", "pending", "withdrawn"),
        ("alice", None, "pending"),
        ("bob", "pending", "accepted"),
        ("admin", "accepted", "expired"),
    ]


def test_refused_offer_offers_to_nobody(catalog: Catalog) -> None:
    with catalog.write() as session:
        image = catalog.active(session)
    with pytest.raises(NotVisible), catalog.write() as session:
        share_image(session, image_id=image.id, accounts=["bob", "nobody"], by=ALICE)
    with catalog.read() as session:
        assert catalog.count(session, Member) == 0
        assert session.get_one(Image, image.id).state is ImageState.ACTIVE
