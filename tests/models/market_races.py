"""What races on one image of the market: subjects made by a seed, operations on them, and what of a subject is compared.

The races themselves, and what must come of them, are in test_models_market_races.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations_with_replacement, count
from random import Random
from typing import Any

from catalog_rows import system_disk
from sqlmodel import Session, col, select

from models.ecs import NewEcs, create_ecs
from models.gate import set_public, unset_public
from models.image_changes import set_active, set_protected
from models.images import delete_image
from models.listings import subscribe
from models.market_tables import Listing, ListingWord, Member, Scan, Subscription, Version
from models.revocation import revoke_image
from models.sharing import accept_share, expire_member, leave_share, reject_share, share_image, withdraw_share
from models.tables import Disk, Ecs, Image, Row, new_id, utc_now
from models.trail import Actor
from models.versions import (
    NewVersion,
    Verdict,
    decide,
    end_scan,
    expire_review,
    licence_digest,
    own_version,
    submit_version,
    withdraw_version,
)
from models.vocabulary import Decision, ImageState, MemberState, Purpose, VersionState, WithdrawnFor

OWNER, REVIEWER, MEMBER, SUBSCRIBER, NEWCOMER = "admin", "rita", "bob", "carol", "dave"
"""The owner is an operator and a reviewer as well, so that it may do all there is to do with an image of its own."""
LICENCE = "Be nice."
HOUR = timedelta(hours=1)
_numbers = count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """How things stand before the race; None where there is no share, no version, no second listing of the image."""

    image: str = "active"
    public: bool = False
    member: str | None = None
    ended: bool = False
    version: str | None = None
    overdue: bool = False
    subscribed: bool = False
    beside: str | None = None


CHOICES: dict[str, Sequence[object]] = {
    "public": [False, False, False, True],
    "member": [None, "pending", "accepted", "rejected"],
    "ended": [False, False, False, True],
    "version": [None, "in_review", "listed", "listed"],
    "subscribed": [False, True],
    "beside": [None, None, "listed"],
}


def situation(random: Random, *needs: dict[str, object]) -> Situation:
    """What the steps need, one of them above all, and the rest as it comes."""
    drawn = {name: random.choice(values) for name, values in CHOICES.items()}
    for need in random.sample(needs, len(needs)):
        drawn |= need
    return Situation(**drawn)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Subject:
    image: str
    listing: str
    beside: str
    version: str
    version_beside: str
    scan: str


def make_subjects(session: Session, given: Sequence[Situation]) -> list[Subject]:
    """An image of its own for each situation, with its shares and listings."""
    subjects = [Subject(*(new_id() for _ in range(6))) for _ in given]
    levels = zip(*map(_rows, subjects, given), strict=True)
    for level in levels:
        session.add_all(row for rows in level for row in rows)
        session.flush()
    return subjects


def _rows(subject: Subject, given: Situation) -> Iterable[Sequence[Row]]:
    """The rows of one subject, those that others refer to first."""
    now = utc_now()
    image = Image(
        id=subject.image, owner=OWNER, name="web", state=ImageState(given.image), digest="d" * 64, public=given.public
    )
    image.created_at = now
    yield [image]
    versions = [_version(subject, given.version, given), _version(subject, given.beside, given, beside=True)]
    yield [
        Disk(image_id=subject.image, **system_disk().model_dump()),
        Scan(id=subject.scan, image_id=subject.image, digest="d" * 64, owner=OWNER, purpose=Purpose.PUBLIC, passed=True),
        *(
            Listing(id=at, owner=OWNER, title=f"Web {next(_numbers)}", **_shown(version))
            for at, version in zip((subject.listing, subject.beside), versions, strict=True)
        ),
    ]
    yield [version for version in versions if version is not None]
    words = [ListingWord(word="thing", listing_id=row.listing_id) for row in versions if row and row.state == "listed"]
    yield [*words, *_shares(subject, given), *_subscriptions(subject, given)]


def _shown(version: Version | None) -> dict[str, Any]:
    if version is None or version.state is not VersionState.LISTED:
        return {}
    return {"version_id": version.id, "listed_at": utc_now()}


def _version(subject: Subject, state: str | None, given: Situation, *, beside: bool = False) -> Version | None:
    if state is None:
        return None
    reviewed = None if state in ("draft", "scanning") else utc_now() + (-HOUR if given.overdue else HOUR)
    return Version(
        id=subject.version_beside if beside else subject.version,
        listing_id=subject.beside if beside else subject.listing,
        owner=OWNER,
        number=1,
        name="1",
        state=VersionState(state),
        image_id=subject.image,
        digest="d" * 64,
        summary="A thing",
        categories=["web"],
        support_contact="help@example.com",
        licence=LICENCE,
        licence_digest=licence_digest(LICENCE),
        review_until=reviewed,
        image_created_at=utc_now(),
    )


def _shares(subject: Subject, given: Situation) -> list[Member]:
    if given.member is None:
        return []
    end = utc_now() - HOUR if given.ended else None
    whose: dict[str, Any] = {
        "image_id": subject.image,
        "account": MEMBER,
        "owner": OWNER,
        "digest": "d" * 64,
        "image_created_at": utc_now(),
    }
    return [Member(**whose, state=MemberState(given.member), expires_at=end)]


def _subscriptions(subject: Subject, given: Situation) -> list[Subscription]:
    if not given.subscribed or given.version is None:
        return []
    what = {"listing_id": subject.listing, "licence_digest": licence_digest(LICENCE), "version_id": subject.version}
    return [Subscription(account=SUBSCRIBER, **what, accepted_at=utc_now() - HOUR)]


Step = Callable[[Session, Subject], object]


def _launch(account: str) -> Step:
    return lambda s, on: create_ecs(s, new=NewEcs(name="web-1", image_id=on.image, host="here"), by=Actor(account))


def _share(account: str) -> Step:
    return lambda s, on: share_image(s, image_id=on.image, accounts=[account], by=Actor(OWNER), expires_at=utc_now() + HOUR)


def _submit(s: Session, on: Subject, *, listing: str) -> object:
    title = s.get_one(Listing, listing).title
    said = {"summary": "A thing", "categories": ["web"], "support_contact": "help@example.com", "licence": LICENCE}
    return submit_version(s, new=NewVersion(image_id=on.image, title=title, name="2", **said), by=Actor(OWNER))  # type: ignore[arg-type]


def _decide(account: str, decision: Decision) -> Step:
    return lambda s, on: decide(s, version_id=on.version, decision=decision, note="Seen.", by=Actor(account))


def _withdraw(scope: WithdrawnFor, *, beside: bool = False) -> Step:
    def call(s: Session, on: Subject) -> object:
        return withdraw_version(s, version_id=on.version_beside if beside else on.version, scope=scope, by=Actor(OWNER))

    return call


def _expire(s: Session, on: Subject) -> object:
    member = s.exec(select(Member).where(Member.image_id == on.image, Member.account == MEMBER)).first()
    return member is not None and expire_member(s, member=member, by=Actor(OWNER))


def _end_scan(s: Session, on: Subject) -> object:
    verdict = Verdict(scan_id=on.scan, passed=True, review_until=utc_now() + HOUR)
    end_scan(s, version=own_version(s, account=OWNER, version_id=on.version), verdict=verdict, by=Actor(OWNER))
    return True


STEPS: dict[str, tuple[Step, dict[str, object]]] = {
    "share": (_share(NEWCOMER), {"public": False}),
    "share again": (_share(MEMBER), {"public": False, "member": "accepted"}),
    "unshare": (lambda s, on: withdraw_share(s, image_id=on.image, accounts=[MEMBER], by=Actor(OWNER)), {"member": "accepted"}),
    "accept": (lambda s, on: accept_share(s, image_id=on.image, by=Actor(MEMBER)), {"member": "pending", "ended": False}),
    "reject": (lambda s, on: reject_share(s, image_id=on.image, by=Actor(MEMBER)), {"member": "accepted", "ended": False}),
    "leave": (lambda s, on: leave_share(s, image_id=on.image, by=Actor(MEMBER)), {"member": "accepted"}),
    "expire": (_expire, {"member": "accepted", "ended": True}),
    "launch by member": (_launch(MEMBER), {"member": "accepted", "ended": False, "public": False}),
    "launch by subscriber": (_launch(SUBSCRIBER), {"version": "listed", "subscribed": True, "public": False}),
    "launch by newcomer": (_launch(NEWCOMER), {"version": "listed", "public": False}),
    "delete": (lambda s, on: delete_image(s, image_id=on.image, by=Actor(OWNER)), {"version": None, "beside": None}),
    "deactivate": (
        lambda s, on: set_active(s, image_id=on.image, active=False, by=Actor(OWNER)),
        {"version": None, "beside": None},
    ),
    "protect": (lambda s, on: set_protected(s, image_id=on.image, protected=True, by=Actor(OWNER)), {}),
    "revoke": (lambda s, on: revoke_image(s, image_id=on.image, by=Actor(OWNER)), {"version": "listed", "beside": "listed"}),
    "make public": (lambda s, on: set_public(s, image_id=on.image, scan_id=on.scan, by=Actor(OWNER)), {"public": False}),
    "take back": (lambda s, on: unset_public(s, image_id=on.image, by=Actor(OWNER)), {"public": True}),
    "submit": (lambda s, on: _submit(s, on, listing=on.listing), {}),
    "submit beside": (lambda s, on: _submit(s, on, listing=on.beside), {}),
    "end scan": (_end_scan, {"version": "scanning"}),
    "approve": (_decide(REVIEWER, Decision.APPROVE), {"version": "in_review"}),
    "turn down": (_decide(OWNER, Decision.REJECT), {"version": "in_review"}),
    "expire review": (
        lambda s, on: expire_review(s, version_id=on.version, by=Actor(OWNER)),
        {"version": "in_review", "overdue": True},
    ),
    "withdraw for new": (_withdraw(WithdrawnFor.NEW), {"version": "listed"}),
    "withdraw for all": (_withdraw(WithdrawnFor.ALL), {"version": "listed"}),
    "withdraw beside": (_withdraw(WithdrawnFor.ALL, beside=True), {"beside": "listed"}),
    "subscribe": (
        lambda s, on: subscribe(s, listing_id=on.listing, licence_digest=licence_digest(LICENCE), by=Actor(NEWCOMER)),
        {"version": "listed"},
    ),
}
"""What to do, and what it needs in order to be possible."""
ENDING = ("delete", "deactivate", "revoke")
SHARING = (*list(STEPS)[:8], "protect", "make public", "take back", *ENDING)
PUBLISHING = (*list(STEPS)[16:], "launch by subscriber", "launch by newcomer", *ENDING)
PAIRS = list(dict.fromkeys(pair for some in (SHARING, PUBLISHING) for pair in combinations_with_replacement(some, 2)))
"""What changes or reads the same rows of a subject."""


def standings(session: Session, subjects: Sequence[Subject]) -> list[list[object]]:
    """All of each subject that a race may change, without what differs between two of the same."""
    images = [on.image for on in subjects]
    listings = [at for on in subjects for at in (on.listing, on.beside)]
    found: dict[str, list[Row]] = defaultdict(list)
    for table, at, ids in (
        (Image, Image.id, images),
        (Member, Member.image_id, images),
        (Version, Version.image_id, images),
        (Ecs, Ecs.image_id, images),
        (Listing, Listing.id, listings),
        (ListingWord, ListingWord.listing_id, listings),
        (Subscription, Subscription.listing_id, listings),
    ):
        for key, row in session.exec(select(at, table).where(col(at).in_(ids))):
            found[f"{table.__name__} {key}"].append(row)
    return [_standing(found, on) for on in subjects]


def _standing(found: Mapping[str, list[Any]], on: Subject) -> list[object]:
    (image,) = found[f"Image {on.image}"]
    versions = found[f"Version {on.image}"]
    named = {row.id: f"{row.name} {'beside' if row.listing_id == on.beside else ''}" for row in versions}
    listings = [found[f"Listing {at}"][0].version_id for at in (on.listing, on.beside)]
    decided = [(named[row.id], row.number, row.state, row.decision or "", row.reviewer or "", row.note) for row in versions]
    return [
        (image.state, image.public, image.protected),
        sorted((row.account, row.state, row.expires_at is None) for row in found[f"Member {on.image}"]),
        sorted(decided),
        sorted((named[row.id], row.withdrawn_for or "") for row in versions),
        [named.get(version or "") for version in listings],
        [bool(found[f"ListingWord {at}"]) for at in (on.listing, on.beside)],
        sorted((row.account, named[row.version_id]) for row in found[f"Subscription {on.listing}"]),
        sorted((row.owner, sorted(named[licence] for licence in row.disks[0].licences)) for row in found[f"Ecs {on.image}"]),
    ]
