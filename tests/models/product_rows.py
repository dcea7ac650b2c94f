"""Short ways to versions of the marketplace in a test's catalog: alice publishes, admin reviews. Accounts: catalog_rows.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from catalog_rows import Catalog, passage
from sqlmodel import Session

from models.gate import record_passage
from models.licences import licences_of
from models.listings import subscribe
from models.market_tables import Subscription, Version
from models.tables import Ecs, Image, utc_now
from models.trail import Actor
from models.versions import NewVersion, Verdict, begin_scan, decide, end_scan, submit_version, withdraw_version
from models.vocabulary import Decision, Purpose, WithdrawnFor

SAID = {"summary": "A product.", "categories": ["web"], "support_contact": "help@example.com", "licence": "Be kind."}
ADMIN, ALICE, BOB = Actor("admin"), Actor("alice"), Actor("bob")


class Products:
    """Versions in any state, in one transaction of a catalog."""

    def __init__(self, catalog: Catalog, session: Session) -> None:
        self.catalog, self.session = catalog, session

    def submit(
        self, name: str = "1.0", *, title: str = "Product", image: Image | None = None, by: Actor = ALICE, **said: Any
    ) -> Version:
        """A draft over an image of the account's, which is made where none is given."""
        image = image or self.catalog.active(self.session, owner=by.account)
        new = NewVersion(image_id=image.id, title=title, name=name, **SAID | said)
        return submit_version(self.session, new=new, by=by)

    def scanned(self, version: Version, *, passed: bool = True, days: int = 7) -> Version:
        """In review until so many days from now, or rejected by the gate."""
        image = self.session.get_one(Image, version.image_id)
        scan = record_passage(self.session, image=image, passage=passage(Purpose.PUBLISH, passed=passed), by=ALICE)
        begin_scan(self.session, version=version, by=ALICE)
        verdict = Verdict(scan_id=scan.id, passed=passed, review_until=utc_now() + timedelta(days=days))
        end_scan(self.session, version=version, verdict=verdict, by=ALICE)
        return version

    def in_review(self, name: str = "1.0", *, days: int = 7, **said: Any) -> Version:
        return self.scanned(self.submit(name, **said), days=days)

    def decide(self, version: Version, decision: Decision = Decision.APPROVE, *, note: str = "", by: Actor = ADMIN) -> Version:
        return decide(self.session, version_id=version.id, decision=decision, note=note, by=by)

    def listed(self, name: str = "1.0", **said: Any) -> Version:
        return self.decide(self.in_review(name, **said))

    def withdraw(self, version: Version, scope: WithdrawnFor = WithdrawnFor.ALL, *, by: Actor = ALICE) -> Version:
        return withdraw_version(self.session, version_id=version.id, scope=scope, by=by)

    def subscribe(self, version: Version, *, by: Actor = BOB) -> Subscription:
        return subscribe(self.session, listing_id=version.listing_id, licence_digest=version.licence_digest, by=by)

    def launch(self, version: Version, *, account: str = "bob") -> Ecs:
        """An ECS of the version's image. Raises what a launch does."""
        return self.catalog.building(self.session, self.image(version), owner=account)

    def licences(self, version: Version, *, account: str = "bob") -> list[str]:
        return licences_of(self.session, account=account, image=self.image(version))

    def image(self, version: Version) -> Image:
        return self.session.get_one(Image, version.image_id)
