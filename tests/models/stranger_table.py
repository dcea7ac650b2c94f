"""Every query of the catalog as a stranger asks it about what is a victim's. No tests here.

`test_models_stranger.py` fails for a function that is neither here nor, with a reason, in `stranger_exempt`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session, col, select
from victim_rows import MARK, PRODUCT, REVIEWER, STRANGER, THIRD

from models.accounts import get_account, require_operator, require_reviewer
from models.ecs import NewEcs, attach_disk, create_ecs, get_ecs, list_ecs
from models.gate import get_scan, list_scans, set_public, unset_public
from models.image_changes import set_active, set_deprecated, set_hidden, set_protected
from models.images import ImageFilter, NewImage, create_image, delete_image, get_image, image_type, list_images, own_image
from models.keys import authenticate, list_keys, revoke_keys
from models.licences import licences_of
from models.lineage import lineage_of
from models.listings import (
    find_listing,
    get_offered,
    list_listings,
    list_subscriptions,
    list_versions,
    listed_image,
    own_listings,
    subscribe,
)
from models.operation_finding import find_operation, get_operation, list_operations, operations_of_keys, unfinished_key
from models.operations import Owner, Request, begin_operation
from models.quotas import reserve_creation, reserve_image, usage
from models.revocation import images_to_revoke, restore_image, revoke_image, running_ecs
from models.series import images_of_series, list_series, surplus
from models.sharing import (
    accept_share,
    held_share,
    leave_share,
    list_members,
    list_offers,
    reject_share,
    share_image,
    withdraw_share,
)
from models.tables import Ecs, Image, utc_now
from models.trail import Actor, list_audit
from models.versions import NewVersion, decide, get_version, list_reviews, own_version, submit_version, withdraw_version
from models.vocabulary import Decision, MemberState, WithdrawnFor

Call = Callable[[Session, str, str], object]
"""What an account asks about one thing, given by its id or name: `call(session, account, id)`."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One call. `about` are the kinds of thing it is asked about; none for a list. `but` are labels that `who` may know of."""

    call: Call
    about: tuple[str, ...] = ()
    who: str = STRANGER
    but: tuple[str, ...] = ()
    told: bool = True
    """Whether somebody with a right to it gets another answer than a stranger does, as proof that the call is a real one."""


def about(kinds: str, call: Call, *, who: str = STRANGER, but: str = "", told: bool = True) -> Ask:
    return Ask(call=call, about=tuple(kinds.split()), who=who, but=tuple(but.split()), told=told)


def listed(call: Callable[[Session, str], object]) -> Ask:
    return Ask(call=lambda session, who, _: call(session, who))


def _own(session: Session, who: str) -> Ecs:
    return session.exec(select(Ecs).where(Ecs.owner == who).order_by(col(Ecs.created_at)).limit(1)).one()


def _own_image(session: Session, who: str) -> Image:
    return session.exec(select(Image).where(Image.owner == who).order_by(col(Image.created_at)).limit(1)).one()


def _version(image_id: str, *, title: str = MARK) -> NewVersion:
    said = {"summary": "x", "support_contact": "x", "licence": "x"}
    return NewVersion(image_id=image_id, title=title, name="1.0", categories=["web"], **said)


def _request(who: str, key: str) -> Request:
    return Request(kind="import", account=who, key=key, fingerprint="another")


def _dead(owner: Owner) -> bool:
    return False


_HERE = Owner("here", 1, "0")
_LONG_AGO = utc_now().replace(year=2020)

ASKS: dict[str, list[Ask]] = {
    "accounts.get_account": [listed(lambda s, who: get_account(s, name=who))],
    "accounts.require_operator": [listed(lambda s, who: require_operator(s, name=who, step="look"))],
    "accounts.require_reviewer": [listed(lambda s, who: require_reviewer(s, name=who, step="look"))],
    "ecs.attach_disk": [about("image", lambda s, who, it: attach_disk(s, ecs=_own(s, who), image_id=it, by=Actor(who)))],
    "ecs.create_ecs": [
        about("image", lambda s, who, it: create_ecs(s, new=NewEcs(name="x", image_id=it, host="here"), by=Actor(who)))
    ],
    "ecs.get_ecs": [about("ecs", lambda s, who, it: get_ecs(s, account=who, ecs_id=it))],
    "ecs.list_ecs": [listed(lambda s, who: list_ecs(s, account=who))],
    "gate.get_scan": [
        about("scan", lambda s, who, it: get_scan(s, account=who, scan_id=it)),
        about("scan", lambda s, who, it: get_scan(s, account=who, scan_id=it), who=REVIEWER, but="in_review"),
    ],
    "gate.list_scans": [about("image", lambda s, who, it: list_scans(s, account=who, image_id=it))],
    "gate.set_public": [
        about("image", lambda s, who, it: set_public(s, image_id=it, scan_id=it, by=Actor(who)), told=False),
        about("scan", lambda s, who, it: set_public(s, image_id=_own_image(s, who).id, scan_id=it, by=Actor(who)), told=False),
    ],
    "gate.unset_public": [about("image", lambda s, who, it: unset_public(s, image_id=it, by=Actor(who)), told=False)],
    "image_changes.set_active": [
        about("image", lambda s, who, it: set_active(s, image_id=it, active=False, by=Actor(who))),
        about("image", lambda s, who, it: set_active(s, image_id=it, active=True, by=Actor(who))),
    ],
    "image_changes.set_deprecated": [
        about("image", lambda s, who, it: set_deprecated(s, image_id=it, at=_LONG_AGO, by=Actor(who)))
    ],
    "image_changes.set_hidden": [about("image", lambda s, who, it: set_hidden(s, image_id=it, hidden=True, by=Actor(who)))],
    "image_changes.set_protected": [
        about("image", lambda s, who, it: set_protected(s, image_id=it, protected=True, by=Actor(who)))
    ],
    "images.create_image": [
        about(
            "image",
            lambda s, who, it: create_image(s, new=NewImage(name="x", size=1, parent_image_id=it), by=Actor(who)),
        )
    ],
    "images.delete_image": [about("image", lambda s, who, it: delete_image(s, image_id=it, by=Actor(who)))],
    "images.get_image": [about("image", lambda s, who, it: get_image(s, account=who, image_id=it))],
    "images.image_type": [listed(lambda s, who: image_type(s, account=who, image=_own_image(s, STRANGER)))],
    "images.list_images": [
        listed(lambda s, who: list_images(s, account=who, chosen=ImageFilter(everything=True), limit=1000)),
        about(
            "image_name",
            lambda s, who, it: list_images(s, account=who, chosen=ImageFilter(name=it, everything=True)),
        ),
    ],
    "images.own_image": [about("image", lambda s, who, it: own_image(s, account=who, image_id=it))],
    "keys.authenticate": [about("account", lambda s, who, it: authenticate(s, name=it, key="ims_guessed"), told=False)],
    "keys.list_keys": [listed(lambda s, who: list_keys(s, account=who))],
    "keys.revoke_keys": [about("key", lambda s, who, it: revoke_keys(s, name=who, key_id=it, by=Actor(who)))],
    "licences.licences_of": [listed(lambda s, who: licences_of(s, account=who, image=_own_image(s, STRANGER)))],
    "lineage.lineage_of": [about("image", lambda s, who, it: lineage_of(s, account=who, image_id=it))],
    "listings.find_listing": [about("listing title", lambda s, who, it: find_listing(s, account=who, wanted=it))],
    "listings.get_offered": [
        about("listing", lambda s, who, it: get_offered(s, account=who, listing_id=it), told=False)  # nothing of it is listed
    ],
    "listings.list_listings": [
        listed(lambda s, who: list_listings(s, account=who)),
        listed(lambda s, who: list_listings(s, account=who, search=MARK)),
        listed(lambda s, who: list_listings(s, account=who, search=PRODUCT, category="common")),
        listed(lambda s, who: list_listings(s, account=who, category=MARK)),
    ],
    "listings.list_subscriptions": [listed(lambda s, who: list_subscriptions(s, account=who))],
    "listings.list_versions": [about("listing", lambda s, who, it: list_versions(s, account=who, listing_id=it))],
    "listings.listed_image": [about("image", lambda s, _, it: listed_image(s, image_id=it), told=False)],
    "listings.own_listings": [listed(lambda s, who: own_listings(s, account=who))],
    "listings.subscribe": [
        about(
            "listing", lambda s, who, it: subscribe(s, listing_id=it, licence_digest="f" * 64, by=Actor(who)), told=False
        )  # nothing of it is listed
    ],
    "operations.begin_operation": [
        about(
            "idempotency_key",
            lambda s, who, it: begin_operation(s, request=_request(who, it), owner=_HERE, is_alive=_dead),
        )
    ],
    "operation_finding.find_operation": [
        about("idempotency_key", lambda s, who, it: find_operation(s, account=who, kind="import", key=it))
    ],
    "operation_finding.get_operation": [about("operation", lambda s, who, it: get_operation(s, account=who, operation_id=it))],
    "operation_finding.list_operations": [
        listed(lambda s, who: list_operations(s, account=who)),
        about("image", lambda s, who, it: list_operations(s, account=who, subject_id=it)),
    ],
    "operation_finding.operations_of_keys": [
        about("idempotency_key", lambda s, who, it: operations_of_keys(s, account=who, kind="import", keys=[it]))
    ],
    "operation_finding.unfinished_key": [
        about("fingerprint", lambda s, who, it: unfinished_key(s, account=who, kind="import", fingerprint=it))
    ],
    "quotas.reserve_creation": [listed(lambda s, who: reserve_creation(s, account=who))],
    "quotas.reserve_image": [listed(lambda s, who: reserve_image(s, account=who, size=1 << 60))],
    "quotas.usage": [listed(lambda s, who: usage(s, account=who))],
    "revocation.images_to_revoke": [
        about("image", lambda s, who, it: images_to_revoke(s, account=who, image_id=it, descendants=True))
    ],
    "revocation.revoke_image": [about("image", lambda s, who, it: revoke_image(s, image_id=it, by=Actor(who)))],
    "revocation.restore_image": [
        about("image", lambda s, who, it: restore_image(s, image_id=it, by=Actor(who)), told=False)
    ],  # none is revoked
    "revocation.running_ecs": [about("image", lambda s, who, it: running_ecs(s, account=who, image_ids=[it]))],
    "series.images_of_series": [
        about("ecs", lambda s, who, it: images_of_series(s, account=who, series=f"{MARK} nightly", source_ecs_id=it))
    ],
    "series.list_series": [listed(lambda s, who: list_series(s, account=who))],
    "series.surplus": [
        about("ecs", lambda s, who, it: surplus(s, account=who, series=f"{MARK} nightly", source_ecs_id=it, keep=1, lock=True))
    ],
    "sharing.accept_share": [
        about("image", lambda s, who, it: accept_share(s, image_id=it, by=Actor(who))),
        about("image", lambda s, who, it: accept_share(s, image_id=it, digest="f" * 64, by=Actor(who))),
    ],
    "sharing.held_share": [about("image", lambda s, who, it: held_share(s, account=who, image_id=it))],
    "sharing.leave_share": [about("image", lambda s, who, it: leave_share(s, image_id=it, by=Actor(who)))],
    "sharing.list_members": [about("image", lambda s, who, it: list_members(s, account=who, image_id=it))],
    "sharing.list_offers": [
        listed(lambda s, who: [list_offers(s, account=who, state=state) for state in MemberState]),
    ],
    "sharing.reject_share": [about("image", lambda s, who, it: reject_share(s, image_id=it, by=Actor(who)))],
    "sharing.share_image": [about("image", lambda s, who, it: share_image(s, image_id=it, accounts=[THIRD], by=Actor(who)))],
    "sharing.withdraw_share": [
        about("image", lambda s, who, it: withdraw_share(s, image_id=it, accounts=[THIRD], by=Actor(who))),
        about(
            "account",
            lambda s, who, it: withdraw_share(s, image_id=_own_image(s, who).id, accounts=[it], by=Actor(who)),
            told=False,
        ),
    ],
    "trail.list_audit": [
        listed(lambda s, who: list_audit(s, account=who, limit=1000)),
        about("image ecs version listing operation account", lambda s, who, it: list_audit(s, account=who, subject_id=it)),
    ],
    "versions.decide": [
        about("version", lambda s, who, it: _decide(s, who, it), told=False),  # its owner is no reviewer
        about("version", lambda s, who, it: _decide(s, who, it), who=REVIEWER, but="in_review withdrawn closed"),
    ],
    "versions.get_version": [
        about("version", lambda s, who, it: get_version(s, account=who, version_id=it)),
        about("version", lambda s, who, it: get_version(s, account=who, version_id=it), who=REVIEWER, but="in_review"),
    ],
    "versions.list_reviews": [listed(lambda s, who: list_reviews(s, account=who))],
    "versions.own_version": [about("version", lambda s, who, it: own_version(s, account=who, version_id=it))],
    "versions.submit_version": [
        about("image", lambda s, who, it: submit_version(s, new=_version(it), by=Actor(who))),
        about("title", lambda s, who, it: submit_version(s, new=_version(_own_image(s, who).id, title=it), by=Actor(who))),
    ],
    "versions.withdraw_version": [
        about("version", lambda s, who, it: withdraw_version(s, version_id=it, scope=WithdrawnFor.ALL, by=Actor(who)))
    ],
}


def _decide(session: Session, who: str, version_id: str) -> object:
    return decide(session, version_id=version_id, decision=Decision.REJECT, note="", by=Actor(who))
