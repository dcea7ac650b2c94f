"""Steps on shares: offer an image, answer, end it. Who sees what of it is `models.images` and `models.sharing`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from prefect import task
from pydantic import BaseModel, ConfigDict

from models import sharing
from models.market_tables import Member
from models.operations import heartbeat
from models.tables import Image, utc_now
from tasks.events import tell
from tasks.finding import resolve_offer
from tasks.markdown import cell, table
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, require_account
from tasks.sagas import Saga


class MemberView(BaseModel):
    """One share of an image with one account. `digest` is of all its disks together: what was offered is what launches."""

    model_config = ConfigDict(from_attributes=True)

    image_id: str
    account: str
    owner: str
    state: str
    digest: str
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class MembersView(BaseModel):
    """Shares of one image that a run made, answered or ended."""

    image_id: str
    members: list[MemberView]


@task(**RETRIED, task_run_name="offer image")
def offer(saga: Saga, image_id: str, accounts: Sequence[str], days: int | None) -> MembersView:
    """Offer the image to the accounts; those that have the offer already keep their answer."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        expires_at = utc_now() + timedelta(days=days) if days is not None else None
        made = sharing.share_image(session, image_id=image_id, accounts=accounts, expires_at=expires_at, by=saga.actor)
        return _done(saga, image_id, made)


@task(**RETRIED, task_run_name="accept share")
def accept(saga: Saga, image_id: str, digest: str | None) -> MembersView:
    """From now on the image is the account's to launch."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        return _done(saga, image_id, [sharing.accept_share(session, image_id=image_id, digest=digest, by=saga.actor)])


@task(**RETRIED, task_run_name="reject share")
def reject(saga: Saga, image_id: str) -> MembersView:
    """Hide the image from the account until it accepts after all."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        return _done(saga, image_id, [sharing.reject_share(session, image_id=image_id, by=saga.actor)])


@task(**RETRIED, task_run_name="leave share")
def leave(saga: Saga, image_id: str) -> MembersView:
    """Give the share back."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        return _done(saga, image_id, [sharing.leave_share(session, image_id=image_id, by=saga.actor)])


@task(**RETRIED, task_run_name="withdraw share")
def withdraw(saga: Saga, image_id: str, accounts: Sequence[str]) -> MembersView:
    """Take the image back from the accounts; what runs lives on."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        return _done(saga, image_id, sharing.withdraw_share(session, image_id=image_id, accounts=accounts, by=saga.actor))


@task(**ONCE, task_run_name="report")
def report_shares(saga: Saga, view: MembersView, what: str) -> None:
    """Publish what became of the shares, and tell whoever waits for it; `what` is offered, accepted, withdrawn ..."""
    for member in view.members:
        tell_share(what, member, by=saga.account)
    with catalog() as session:
        image = session.get(Image, view.image_id)
        name = image.name if image is not None else view.image_id
    text = f"# Image {cell(name)}: {what}\n\n{members_table(view.members, what)}"
    publish(key=f"share-{view.image_id}", text=text, title=f"Image {name} {what}")


def members_table(members: Sequence[MemberView], what: str = "") -> str:
    """Shares as a table."""
    rows = [
        (
            cell(each.account),
            what or each.state,
            f"{each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else "",
            f"`{each.digest}`",
        )
        for each in members
    ]
    return table(("Account", "State", "Ends", "Digest"), rows)


def offered_id_of(account: str, wanted: str) -> str:
    """The id of an image shared with the account, given by id or name, once this process has proved the account."""
    with catalog() as session:
        return resolve_offer(session, account=require_account(session, account=account), wanted=wanted)


def _done(saga: Saga, image_id: str, members: Sequence[Member]) -> MembersView:
    view = MembersView(image_id=image_id, members=[MemberView.model_validate(member) for member in members])
    saga.result = view.model_dump(mode="json")
    return view


def tell_share(what: str, member: MemberView, *, by: str) -> None:
    """Emit what became of a share."""
    facts: dict[str, Any] = {"account": member.account, "owner": member.owner, "digest": member.digest, "by": by}
    tell(f"share.{what}", kind="image", subject=member.image_id, name=f"share with {member.account}", **facts)
