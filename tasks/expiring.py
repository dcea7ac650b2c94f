"""Steps that end what has run out: shares with an expiry, and reviews that nobody answered."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.states import Cancelled
from pydantic import BaseModel

from models.market_tables import Listing, Version
from models.operations import heartbeat
from models.sharing import expire_member, expired_members
from models.versions import expire_review, overdue_reviews
from tasks.markdown import cell, table
from tasks.policies import ONCE, RETRIED
from tasks.publishing import tell_version
from tasks.reports import publish
from tasks.resources import catalog
from tasks.runs import end_run
from tasks.sagas import Saga
from tasks.sharing import MemberView, members_table, tell_share


class ExpiryView(BaseModel):
    """What a run ended."""

    shares: list[MemberView]
    reviews: list[str]


@task(**RETRIED, task_run_name="end shares")
def end_shares(saga: Saga) -> list[MemberView]:
    """End the shares whose time has come, each in a transaction of its own."""
    with catalog() as session:
        due = expired_members(session)
    ended = []
    for member in due:
        with catalog(write=True) as session:
            heartbeat(session, lease=saga.held)
            if expire_member(session, member=member, by=saga.actor):
                ended.append(MemberView.model_validate(member))
    for view in ended:
        tell_share("expired", view, by=saga.account)
    return ended


@task(**RETRIED, task_run_name="end reviews")
def end_reviews(saga: Saga) -> list[str]:
    """Reject the versions that no reviewer answered for in time, and end the runs that asked. Returns their ids."""
    with catalog() as session:
        due = list(overdue_reviews(session))
    return [version.id for version in due if _end_review(saga, version)]


@task(**ONCE, task_run_name="report")
def report_expiry(saga: Saga, shares: Sequence[MemberView], reviews: Sequence[str]) -> ExpiryView:
    """Publish what was ended."""
    view = ExpiryView(shares=list(shares), reviews=list(reviews))
    parts = [f"# Expired\n\n{len(shares)} shares, {len(reviews)} reviews."]
    if shares:
        parts.append(members_table(shares))
    if reviews:
        parts.append(table(("Version",), [(cell(each),) for each in reviews]))
    publish(key="expired", text="\n\n".join(parts), title="Expired")
    saga.result = view.model_dump(mode="json")
    return view


def _end_review(saga: Saga, version: Version) -> bool:
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        if not expire_review(session, version_id=version.id, by=saga.actor):
            return False
        version = session.get_one(Version, version.id)
        title = session.get_one(Listing, version.listing_id).title
    tell_version("rejected", version, title, by="timeout")
    end_run(version.review_run_id, Cancelled(message="No reviewer answered in time; the version is rejected."))
    return True
