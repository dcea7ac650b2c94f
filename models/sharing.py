"""Shares: an owner offers an image to accounts, they answer, and either side ends it. What a share lets see is `models.images`.

Everything here holds the image's row first, so that no two of them, and no launch beside them, decide on what the other
changes. A share that ended is no row: the trail has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from models.accounts import get_account
from models.exceptions import FieldInvalid, ImageRefused, MembersReached, NotVisible, TransitionRefused
from models.images import as_offered, hold_image, not_ended, offered_to, own_image
from models.licences import require_unlicensed
from models.market_tables import Member
from models.paging import Page, Source, find_places
from models.plans import holds
from models.states import transition
from models.tables import Image, utc_now
from models.trail import Actor, Change, write_audit
from models.vocabulary import ImageState, MemberState

MAX_MEMBERS = 128


@dataclass(frozen=True, slots=True)
class Offer:
    """A share as its recipient sees it, before and after it answered."""

    member: Member
    image: Image


def share_image(
    session: Session, *, image_id: str, accounts: Sequence[str], by: Actor, expires_at: datetime | None = None
) -> list[Member]:
    """Offer the account's own active image; whose share still stands keeps the answer and gets the new expiry.

    Raises NotVisible, ImageRefused, TransitionRefused for an image that is not active, MembersReached, FieldInvalid.
    """
    image = own_image(session, account=by.account, image_id=image_id)
    _require_shareable(image)
    if expires_at is not None and expires_at <= utc_now():
        raise FieldInvalid("expires_at", "a time to come")
    members = [
        _offer(session, image=image, account=account, expires_at=expires_at, by=by) for account in dict.fromkeys(accounts)
    ]
    session.flush()
    standing = or_(col(Member.expires_at).is_(None), col(Member.expires_at) > utc_now())
    held = session.exec(select(func.count()).select_from(Member).where(Member.image_id == image_id, standing)).one()
    if held > MAX_MEMBERS:
        raise MembersReached(image_id, MAX_MEMBERS)
    return members


def accept_share(session: Session, *, image_id: str, by: Actor, digest: str | None = None) -> Member:
    """From now on the image is the account's to launch. `digest`, when given, is what the account believes to be offered.

    Raises NotVisible for what was not offered, is not active or has ended, FieldInvalid for another digest.
    """
    member = _offered_member(session, image_id=image_id, account=by.account)
    if digest is not None and digest != member.digest:
        raise FieldInvalid("digest", f"what is offered has the digest {member.digest}")
    if member.state is not MemberState.ACCEPTED:
        transition(session, subject=member, new=MemberState.ACCEPTED, by=by)
    return member


def reject_share(session: Session, *, image_id: str, by: Actor) -> Member:
    """The image is hidden from the account, which may accept it later. Raises NotVisible for what was not offered."""
    member = _offered_member(session, image_id=image_id, account=by.account)
    if member.state is not MemberState.REJECTED:
        transition(session, subject=member, new=MemberState.REJECTED, by=by)
    return member


def leave_share(session: Session, *, image_id: str, by: Actor) -> Member:
    """The account gives the share back; only its owner can offer it again. Raises NotVisible."""
    member = _held_member(session, image_id=image_id, account=by.account)
    _end(session, member=member, how="left", by=by)
    return member


def withdraw_share(session: Session, *, image_id: str, accounts: Sequence[str], by: Actor) -> list[Member]:
    """Take the image back from these accounts: no new launch from now on. Raises NotVisible for one that is no member."""
    own_image(session, account=by.account, image_id=image_id)
    query = select(Member).where(Member.image_id == image_id, col(Member.account).in_(accounts))
    members = list(session.exec(query.order_by(Member.account).with_for_update()).all())
    if missing := set(accounts) - {member.account for member in members}:
        raise NotVisible("member", min(missing))
    for member in members:
        _end(session, member=member, how="withdrawn", by=by)
    return members


def list_members(session: Session, *, account: str, image_id: str) -> Sequence[Member]:
    """The members of the account's own image, by name. Raises NotVisible."""
    own = select(Image.id).where(Image.id == image_id, Image.owner == account, Image.state != ImageState.DELETED)
    if session.exec(own).first() is None:
        raise NotVisible("image", image_id)
    return session.exec(select(Member).where(Member.image_id == image_id).order_by(Member.account)).all()


def list_offers(
    session: Session, *, account: str, state: MemberState = MemberState.PENDING, after: str | None = None, limit: int = 50
) -> Page[Offer]:
    """What others share with the account, by how it answered; what has ended or is not active is not among it."""
    image = select(Image).where(as_offered(), Image.state == ImageState.ACTIVE)
    query = select(Member).where(not_ended(account), Member.state == state, holds(image, over=Member))
    source = Source(query, col(Member.image_created_at), col(Member.image_id))
    page = find_places(session, sources=[source], after=after, limit=limit)
    if not page.rows:
        return Page([], page.after)
    found = select(Member, Image).join(Image, _is_open(account)).where(col(Image.id).in_(page.rows))
    newest = found.order_by(col(Member.image_created_at).desc(), col(Member.image_id).desc())
    return Page([Offer(member, image) for member, image in session.exec(newest)], page.after)


def held_share(session: Session, *, account: str, image_id: str) -> Member:
    """The account's share, also one that has expired or whose image is not active: it may still be left. Raises NotVisible."""
    member = session.exec(select(Member).where(Member.image_id == image_id, Member.account == account)).first()
    if member is None:
        raise NotVisible("image", image_id)
    return member


def expired_members(session: Session, *, limit: int = 500) -> list[Member]:
    """Shares whose time has come, whoever made them: for the operator's schedule alone."""
    query = select(Member).where(col(Member.expires_at) <= utc_now()).order_by(col(Member.expires_at)).limit(limit)
    return list(session.exec(query).all())


def expire_member(session: Session, *, member: Member, by: Actor) -> bool:
    """End a share whose time has come; False where it was ended or prolonged meanwhile."""
    hold_image(session, image_id=member.image_id)
    query = select(Member).where(Member.id == member.id, col(Member.expires_at) <= utc_now())
    row = session.exec(query.with_for_update().execution_options(populate_existing=True)).first()
    if row is None:
        return False
    _end(session, member=row, how="expired", by=by)
    return True


def _require_shareable(image: Image) -> None:
    if image.public:
        raise ImageRefused(image.id, "public", "shared", "everybody sees it already")
    require_unlicensed(image, step="shared")
    if image.state is not ImageState.ACTIVE or image.digest is None:
        raise TransitionRefused("image", image.id, image.state, "shared")


def _offer(session: Session, *, image: Image, account: str, expires_at: datetime | None, by: Actor) -> Member:
    if account == image.owner:
        raise FieldInvalid("account", "an image is not shared with its owner")
    get_account(session, name=account)
    query = select(Member).where(Member.image_id == image.id, Member.account == account).with_for_update()
    member = session.exec(query.execution_options(populate_existing=True)).first()
    if member is not None and member.expires_at is not None and member.expires_at <= utc_now():
        _end(session, member=member, how="expired", by=by)  # as the schedule would have: it is offered anew
        member = None
    if member is not None:
        _prolong(session, member=member, expires_at=expires_at, by=by)
    else:
        member = Member(
            image_id=image.id,
            account=account,
            owner=image.owner,
            digest=image.digest or "",
            image_created_at=image.created_at,
            expires_at=expires_at,
        )
        detail = {"image_id": image.id, "account": account, "digest": member.digest}
        write_audit(session, by=by, change=Change("member", member.id, image.owner, new=member.state, detail=detail))
        session.add(member)
    return member


def _prolong(session: Session, *, member: Member, expires_at: datetime | None, by: Actor) -> None:
    """Another time at which the share ends by itself; its answer stays."""
    if member.expires_at == expires_at:
        return
    detail = {"image_id": member.image_id, "account": member.account}
    old, new = (f"expires_at={each.isoformat() if each else None}" for each in (member.expires_at, expires_at))
    write_audit(session, by=by, change=Change("member", member.id, member.owner, old, new, detail))
    member.expires_at, member.updated_at = expires_at, utc_now()
    session.add(member)


def _held_member(session: Session, *, image_id: str, account: str) -> Member:
    """The account's share, whatever became of its image, with the image held."""
    hold_image(session, image_id=image_id)
    query = select(Member).where(Member.image_id == image_id, Member.account == account)
    member = session.exec(query.with_for_update().execution_options(populate_existing=True)).first()
    if member is None:
        raise NotVisible("image", image_id)
    return member


def _offered_member(session: Session, *, image_id: str, account: str) -> Member:
    """The account's share of an active image that has not ended."""
    member = _held_member(session, image_id=image_id, account=account)
    still = select(Member.id).join(Image, _is_open(account)).where(Member.id == member.id)
    if session.exec(still).first() is None:
        raise NotVisible("image", image_id)
    return member


def _is_open(account: str) -> ColumnElement[bool]:
    """The condition, over image and member, under which a share may be answered."""
    return and_(offered_to(account), col(Image.state) == ImageState.ACTIVE)


def _end(session: Session, *, member: Member, how: str, by: Actor) -> None:
    detail = {"image_id": member.image_id, "account": member.account}
    write_audit(session, by=by, change=Change("member", member.id, member.owner, member.state, how, detail))
    session.delete(member)
    session.flush()
