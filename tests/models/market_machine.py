"""A machine that does to one catalog what accounts do on the market, in any order, and believes what should come of it.

What it believes is `market_model`, what is compared after every step `market_checks`.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from market_checks import check_all, check_step, columns_of
from market_model import ACCOUNTS, OPERATOR, REVIEWER, ImageBelief, ShareBelief, VersionBelief
from market_steps import PICK, TAKER, WHO, MarketSteps, chosen, latest
from sqlalchemy import update
from sqlmodel import Session, col

from models.exceptions import FieldInvalid, ImageRefused, NameTaken, NotVisible, RoleNeeded, TransitionRefused
from models.listings import subscribe
from models.market_tables import Member, Version
from models.revocation import images_to_revoke, revoke_image
from models.sharing import accept_share, expire_member, expired_members, leave_share, reject_share, share_image, withdraw_share
from models.tables import utc_now
from models.trail import Actor
from models.versions import (
    NewVersion,
    Verdict,
    begin_scan,
    decide,
    end_scan,
    expire_review,
    licence_digest,
    overdue_reviews,
    submit_version,
    withdraw_version,
)
from models.vocabulary import Decision, WithdrawnFor

TITLES = {"Gamma tool": ("small web thing", ("web-server",)), "Delta": ("rows and tables", ("database", "web-server"))}
LICENCES = {licence_digest(text): text for text in ("Be nice.", "Be nicer.")}
AGO = timedelta(hours=1)


class MarketMachine(MarketSteps):
    """Steps of sharing, publishing, subscribing and revoking, and the comparison after each."""

    @initialize(licence=st.sampled_from(list(LICENCES)), launches=st.booleans())
    def open_market(self, licence: str, launches: bool) -> None:
        """Something shared, something listed, and somebody who took both."""
        for owner in ("alice", "pat"):
            self.bring_image(owner, "system", 12)
        self.give(1, "bob")
        self.publish(0, None, "Gamma tool", licence)
        self.subscribe(0, "bob", None)
        for pick in (1, 0) if launches else ():
            self.launch(pick, "bob")
            self.move_ecs(0, deletes=False)

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=WHO, account=TAKER, lasts=st.booleans())
    def share(self, pick: int, who: str | None, account: str, lasts: bool) -> None:
        image = self.image(pick)
        owner = who or image.owner
        refusals = self.own(owner, image) | chosen(image.public or bool(image.licences), ImageRefused)
        refusals |= chosen(image.state != "active", TransitionRefused) | chosen(account == image.owner, FieldInvalid)
        end, by = None if lasts else utc_now() + AGO, Actor(owner)
        if self.attempt(refusals, lambda s: share_image(s, image_id=image.id, accounts=[account], expires_at=end, by=by)):
            held = self.market.shares.get((image.id, account))
            if held is None or held.ended:  # what has ended is offered anew
                self.market.shares[image.id, account] = ShareBelief()

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, account=TAKER)
    def give(self, pick: int, account: str) -> None:
        """Shared and accepted, unless it may not be."""
        image = self.image(pick)
        self.share(pick, None, account, True)
        if (image.id, account) in self.market.shares:
            self._answer(image.id, account, accepts=True)

    @precondition(lambda self: self.market.shares)
    @rule(pick=PICK, who=WHO, accepts=st.sampled_from([True, True, False]))
    def answer(self, pick: int, who: str | None, accepts: bool) -> None:
        image_id, account = latest({key: key for key in self.market.shares}, pick)
        self._answer(image_id, who or account, accepts=accepts)

    def _answer(self, image_id: str, account: str, *, accepts: bool) -> None:
        share = self.market.shares.get((image_id, account))
        stands = share is not None and not share.ended and self.market.images[image_id].state == "active"
        answer = accept_share if accepts else reject_share
        done = self.attempt(chosen(not stands, NotVisible), lambda s: answer(s, image_id=image_id, by=Actor(account)))
        if done is not None and share is not None:
            share.state = "accepted" if accepts else "rejected"
        self.touched.add(image_id)

    @precondition(lambda self: self.market.shares)
    @rule(pick=PICK, who=WHO, leaves=st.booleans())
    def end_share(self, pick: int, who: str | None, leaves: bool) -> None:
        image_id, account = latest({key: key for key in self.market.shares}, pick)
        image = self.market.images[image_id]
        if leaves:
            account = who or account
            refusals = chosen((image_id, account) not in self.market.shares, NotVisible)
            done = self.attempt(refusals, lambda session: [leave_share(session, image_id=image_id, by=Actor(account))])
        else:
            by = Actor(who or image.owner)
            refusals = self.own(by.account, image)
            done = self.attempt(refusals, lambda s: withdraw_share(s, image_id=image_id, accounts=[account], by=by))
        if done:
            del self.market.shares[image_id, account]
        self.touched.add(image_id)

    @precondition(lambda self: self.market.shares)
    @rule(pick=PICK, sweeps=st.booleans())
    def let_share_run_out(self, pick: int, sweeps: bool) -> None:
        image_id, account = latest({key: key for key in self.market.shares}, pick)
        query = update(Member).where(col(Member.image_id) == image_id, col(Member.account) == account)
        self.attempt(set(), lambda session: session.exec(query.values(expires_at=utc_now() - AGO)))
        self.market.shares[image_id, account].ended = True
        self.touched.add(image_id)
        if sweeps:
            self.attempt(set(), self._sweep_shares)
            self.market.shares = {key: share for key, share in self.market.shares.items() if not share.ended}

    def _sweep_shares(self, session: Session) -> None:
        rows = expired_members(session)
        assert len(rows) == sum(share.ended for share in self.market.shares.values())
        assert all(expire_member(session, member=row, by=Actor(OPERATOR)) for row in rows)

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=WHO, title=st.sampled_from(sorted(TITLES)), licence=st.sampled_from(list(LICENCES)))
    def publish(self, pick: int, who: str | None, title: str, licence: str) -> None:
        """All the way from the draft to the listing."""
        before = len(self.market.versions)
        self.submit(pick, who, title, licence, name=None)
        if len(self.market.versions) > before:
            self.scan(0, passed=True)
            self.decide(0, None, Decision.APPROVE)

    @precondition(lambda self: self.market.images)
    @rule(
        pick=PICK,
        who=WHO,
        title=st.sampled_from(sorted(TITLES)),
        licence=st.sampled_from(list(LICENCES)),
        name=st.sampled_from([None, None, "1", "2"]),
    )
    def submit(self, pick: int, who: str | None, title: str, licence: str, name: str | None) -> None:
        image = self.image(pick)
        owner, told = who or image.owner, TITLES[title]
        new = NewVersion(
            image_id=image.id,
            title=title,
            name=name or f"v{len(self.market.versions)}",
            summary=told[0],
            categories=told[1],
            support_contact="help@example.com",
            licence=LICENCES[licence],
        )
        listed = {listing for listing, whose in self.market.listings.items() if whose == (owner, title)}
        beside = [version for version in self.market.versions.values() if version.listing in listed]
        refusals = self.own(owner, image) | chosen(image.state != "active", TransitionRefused)
        refusals |= chosen(bool(image.licences) or (image.state == "active" and not image.publishable), ImageRefused)
        refusals |= chosen(new.name in {version.name for version in beside}, NameTaken)
        row = self.attempt(refusals, lambda session: submit_version(session, new=new, by=Actor(owner)))
        if row is None:
            return
        assert (row.number, listed or {row.listing_id}) == (len(beside) + 1, {row.listing_id})
        self.market.listings[row.listing_id] = (owner, title)
        whose = (row.id, row.listing_id, owner, image.id)
        self.market.versions[row.id] = VersionBelief(*whose, row.number, new.name, licence, *told)

    @precondition(lambda self: self.market.versions)
    @rule(pick=PICK, passed=st.sampled_from([True, True, False, None]))
    def scan(self, pick: int, passed: bool | None) -> None:
        """None for a scan that only begins."""
        version = latest(self.market.versions, pick)
        if passed is None:
            self._begin_scan(version)
            return
        verdict = Verdict(scan_id="scan", passed=passed, review_until=utc_now() + AGO)

        def call(session: Session) -> bool:
            row = session.get_one(Version, version.id)
            begin_scan(session, version=row, by=Actor(version.owner))
            end_scan(session, version=row, verdict=verdict, by=Actor(version.owner))
            return True

        if self.attempt(chosen(version.state not in ("draft", "scanning"), TransitionRefused), call):
            version.state, version.reviewed = ("in_review", True) if passed else ("rejected", False)

    def _begin_scan(self, version: VersionBelief) -> None:
        by = Actor(version.owner)
        self.attempt(set(), lambda session: begin_scan(session, version=session.get_one(Version, version.id), by=by))
        version.state = "scanning" if version.state == "draft" else version.state

    @precondition(lambda self: self.market.versions)
    @rule(pick=PICK, who=WHO, decision=st.sampled_from(Decision))
    def decide(self, pick: int, who: str | None, decision: Decision) -> None:
        version = latest(self.market.versions, pick)
        account = who or REVIEWER
        refusals = chosen(account != REVIEWER, RoleNeeded)
        refusals |= chosen(not version.reviewed, NotVisible)
        refusals |= chosen(version.reviewed and (version.state != "in_review" or version.overdue), TransitionRefused)
        by = Actor(account)
        row = self.attempt(refusals, lambda s: decide(s, version_id=version.id, decision=decision, note="Seen.", by=by))
        if row is None:
            return
        version.state = "listed" if decision is Decision.APPROVE else "rejected"
        version.decided_at = row.decided_at
        version.frozen = columns_of(row) if version.state == "listed" else {}
        self.touched.add(version.image)

    @precondition(lambda self: any(version.state == "in_review" for version in self.market.versions.values()))
    @rule(pick=PICK, sweeps=st.booleans())
    def let_review_run_out(self, pick: int, sweeps: bool) -> None:
        version = latest({row.id: row for row in self.market.versions.values() if row.state == "in_review"}, pick)
        query = update(Version).where(col(Version.id) == version.id).values(review_until=utc_now() - AGO)
        self.attempt(set(), lambda session: session.exec(query))
        version.overdue = True
        if sweeps:
            self.attempt(set(), self._sweep_reviews)

    def _sweep_reviews(self, session: Session) -> None:
        for row in self.market.versions.values():
            if row.state != "in_review" or not row.overdue:
                assert not expire_review(session, version_id=row.id, by=Actor(OPERATOR))
        for version in overdue_reviews(session):
            assert expire_review(session, version_id=version.id, by=Actor(OPERATOR))
            self.market.versions[version.id].state = "rejected"

    @precondition(lambda self: self.market.versions)
    @rule(pick=PICK, who=WHO, scope=st.sampled_from(WithdrawnFor))
    def withdraw(self, pick: int, who: str | None, scope: WithdrawnFor) -> None:
        version = latest(self.market.versions, pick)
        account = who or version.owner
        refusals = chosen(account not in (version.owner, OPERATOR), NotVisible)
        refusals |= chosen(version.state == "rejected", TransitionRefused)
        by = Actor(account)
        if self.attempt(refusals, lambda s: withdraw_version(s, version_id=version.id, scope=scope, by=by)):
            self._close(version, scope)
        self.touched.add(version.image)

    def _close(self, version: VersionBelief, scope: str) -> None:
        """Only what was listed stays open to those who had subscribed; what is closed to all stays so."""
        if version.state != "withdrawn":
            version.closed_to = scope if version.state == "listed" else "all"
            version.state, version.closed_at = "withdrawn", self.market.tick
        elif scope == "all":
            version.closed_to = "all"

    @precondition(lambda self: self.market.listings)
    @rule(pick=PICK, account=TAKER, read=st.sampled_from([None, None, *LICENCES]))
    def subscribe(self, pick: int, account: str, read: str | None) -> None:
        listing = latest({key: key for key in self.market.listings}, pick)
        shown = self.market.shown(listing)
        licence = read or (shown.licence if shown else next(iter(LICENCES)))
        refusals = chosen(shown is None, NotVisible)
        if shown is not None:
            refusals |= chosen(shown.owner == account, ImageRefused) | chosen(shown.licence != licence, FieldInvalid)
        by = Actor(account)
        if self.attempt(refusals, lambda s: subscribe(s, listing_id=listing, licence_digest=licence, by=by)):
            self.market.subscriptions.setdefault((account, listing, licence), self.market.tick)
        self.touched |= {version.image for version in self.market.versions.values() if version.listing == listing}

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=st.sampled_from([None, None, OPERATOR, *ACCOUNTS]), descendants=st.booleans())
    def revoke(self, pick: int, who: str | None, descendants: bool) -> None:
        image = self.image(pick)
        account = who or image.owner
        wanted = self.market.revocable(account, image, descendants=descendants)
        refusals = chosen(image.state == "deleted" or not (account == OPERATOR or self.market.owns(account, image)), NotVisible)

        def find(session: Session) -> list[str]:
            return images_to_revoke(session, account=account, image_id=image.id, descendants=descendants)

        found = self.attempt(refusals, find)
        assert set(found or ()) == (set() if refusals else wanted)
        for image_id in found or ():
            self._revoke(self.market.images[image_id], account)

    def _revoke(self, image: ImageBelief, account: str) -> None:
        needing = [version for version in self.market.versions.values() if version.image == image.id and version.needed]
        done = self.attempt(set(), lambda session: revoke_image(session, image_id=image.id, by=Actor(account)))
        assert done == (bool(needing) or image.state == "active")
        if image.state == "active" or (image.state == "deactivated" and image.owner != account):
            image.state, image.revoked_by = "deactivated", account
        for version in needing:
            self._close(version, "all")
        self.touched.add(image.id)

    @invariant()
    def catalog_is_as_believed(self) -> None:
        if self.changed:
            whole = ACCOUNTS[self.market.tick % len(ACCOUNTS)]
            check_step(self.catalog, self.market, touched=self.touched, whole=whole)
        self.touched, self.changed, self.sound = set(), False, True

    def teardown(self) -> None:
        if self.sound:
            check_all(self.catalog, self.market)
