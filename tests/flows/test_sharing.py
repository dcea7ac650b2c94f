"""Shares as their parties see them: offered, answered, ended by either side or by time; each a run, an event and a trail."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import Service
from parties import Party
from sqlmodel import select

from deployments.embedded.probes import prefect_call
from models.market_tables import Member
from tasks.engine.settings import load_settings
from tasks.resources import catalog

pytestmark = pytest.mark.server
MakeDisk = Callable[..., Path]


@pytest.fixture(scope="module")
def owner(service: Service) -> Party:
    return Party.join(service, "sharing-owner")


@pytest.fixture(scope="module")
def other(service: Service) -> Party:
    return Party.join(service, "sharing-other")


@pytest.fixture(scope="module")
def image(owner: Party, folder: Path) -> dict[str, Any]:
    """A data-disk image of the owner's."""
    disk = folder / "shared.raw"
    disk.write_bytes(b"shared" * (1 << 18))
    return owner.ims("image", "import", str(disk), "--format", "raw", "--name", "offered", "--verify", "none")


def test_share_goes_its_way_from_offer_to_withdrawal(owner: Party, other: Party, image: dict[str, Any]) -> None:
    (member,) = owner.ims("image", "share", "offered", other.name)["members"]
    assert (member["state"], member["digest"]) == ("pending", image["digest"])
    assert other.sees() == {}
    (offer,) = other.ims("image", "offers")["offers"]
    assert (offer["image_id"], offer["owner"], offer["digest"]) == (image["id"], owner.name, image["digest"])
    assert other.refused("image", "accept", "offered", "--digest", "f" * 64) == "request.digest"
    other.ims("image", "accept", "offered", "--digest", image["digest"])
    assert other.sees() == {"offered": "shared"}
    assert other.ims("image", "show", image["id"])["source"] == ""
    for step in ("delete", "protect", "members", "scan", "deactivate"):
        assert other.refused("image", step, image["id"]) == "image.not_found"
    assert other.refused("image", "share", image["id"], "admin") == "image.not_found"
    assert other.refused("image", "export", image["id"], "--format", "raw") == "image.not_own"
    other.ims("image", "reject", "offered")
    assert other.sees() == {}
    other.ims("image", "accept", "offered")
    owner.ims("image", "unshare", "offered", other.name)
    assert (other.sees(), other.refused("image", "accept", image["id"])) == ({}, "image.not_found")


def test_left_share_must_be_offered_anew(owner: Party, other: Party, image: dict[str, Any]) -> None:
    owner.ims("image", "share", image["id"], other.name)
    other.ims("image", "accept", "offered")
    other.ims("image", "leave", "offered")
    assert other.refused("image", "accept", image["id"]) == "image.not_found"
    assert owner.ims("image", "members", "offered")["members"] == []


def test_expired_share_is_closed_at_once_and_ended_by_the_schedule(
    service: Service, owner: Party, other: Party, image: dict[str, Any]
) -> None:
    owner.ims("image", "share", image["id"], other.name, "--days", "1")
    other.ims("image", "accept", "offered")
    with catalog(write=True) as session:
        member = session.exec(select(Member).where(Member.image_id == image["id"])).one()
        member.expires_at = datetime.now(UTC) - timedelta(seconds=1)
        session.add(member)
    assert other.sees() == {}
    from flows.expire_offers import expire_offers

    ended = expire_offers()
    assert [(share.image_id, share.account) for share in ended.shares] == [(image["id"], other.name)]
    assert owner.ims("image", "members", "offered")["members"] == []
    trail = [(row["who"], row["new"]) for row in owner.ims("audit", "list")["audit"] if row["kind"] == "member"]
    assert ("admin", "expired") in trail
    assert {("sharing-other", "accepted"), ("sharing-owner", "withdrawn"), ("sharing-other", "left")} <= set(trail)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("offered", "sharing-owner"), "request.account"),
        (("offered", "nobody-at-all"), "account.not_found"),
        (("nothing", "sharing-other"), "image.not_found"),
        (("offered", "sharing-other", "--days", "0"), "request.days"),
        (("offered", "Bad Name"), "request.accounts"),
    ],
)
def test_share_that_cannot_be_is_refused(owner: Party, image: dict[str, Any], arguments: tuple[str, ...], code: str) -> None:
    assert owner.refused("image", "share", *arguments) == code


def test_steps_are_visible_as_runs_and_events(service: Service, owner: Party, other: Party, image: dict[str, Any]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateName,
    )

    completed = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Completed"])))
    names = ["share-image", "accept-share", "reject-share", "leave-share", "withdraw-share", "expire-offers"]
    with get_client(sync_client=True) as client:
        for name in names:
            named = FlowFilter(name=FlowFilterName(any_=[name]))
            assert client.read_flow_runs(flow_filter=named, flow_run_filter=completed, limit=1), name
    kinds = ("offered", "accepted", "rejected", "left", "withdrawn", "expired")
    assert events_of(service, image["id"]) == {f"ims.share.{kind}" for kind in kinds}


def events_of(service: Service, image_id: str) -> set[str]:
    """What the server was told of the image's shares, once it has written down what it was told last."""
    settings, deadline = load_settings(), time.monotonic() + 60
    login = (service.home / "prefect.login").read_text().strip()
    body: dict[str, object] = {"filter": {"resource": {"id": [f"ims.image.{image_id}"]}}, "limit": 50}
    while True:
        told = prefect_call(settings.prefect_api_url, "/events/filter", login=login, body=body) or {}
        names = {event["event"] for event in told["events"] if event["event"].startswith("ims.share.")}
        if len(names) == 6 or time.monotonic() > deadline:
            return names
        time.sleep(1)
