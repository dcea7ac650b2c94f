"""What accounts do with their own images and ECSs, as steps of the market machine.

What they do with each other is `market_machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from catalog_rows import Catalog, passage, system_disk
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from market_model import ACCOUNTS, MAX_BYTES, MAX_CREATIONS, MAX_IMAGES, OPERATOR, REVIEWER, EcsBelief, ImageBelief, Market
from sqlalchemy import Engine
from sqlmodel import Session

from models.accounts import AccountChange, Limits, change_account
from models.database import session_scope
from models.ecs import NewEcs, Readiness, create_ecs, delete_ecs, get_ecs, mark_ready
from models.exceptions import (
    CatalogError,
    DeletionRefused,
    FieldInvalid,
    ImageRefused,
    NotVisible,
    QuotaReached,
    RoleNeeded,
    TransitionRefused,
)
from models.gate import record_passage, set_public, unset_public
from models.image_changes import (
    activate_image,
    fail_image,
    record_disk,
    requeue_image,
    set_active,
    set_deprecated,
    set_hidden,
    set_protected,
)
from models.images import NewImage, create_image, delete_image
from models.licences import licences_on
from models.states import transition
from models.tables import Ecs, Image, Row, utc_now
from models.trail import Actor
from models.vocabulary import BootProof, DiskKind, EcsState, ImageState, Purpose

Result = TypeVar("Result")
Key = TypeVar("Key")
Belief = TypeVar("Belief")
Refusals = set[type[CatalogError]]

PICK = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 7])
"""Which of what there is, counted from the newest: few subjects, so that much happens to each."""
WHO = st.sampled_from([None] * 12 + [*ACCOUNTS])
"""None is whom the step is meant for; the others try what they may not."""
TAKER = st.sampled_from(["bob", "bob", "carol", *ACCOUNTS])
"""Whom something is given to."""
SHAPES = {"system": [DiskKind.SYSTEM], "whole": [DiskKind.SYSTEM, DiskKind.DATA], "data": [DiskKind.DATA]}
DISK_BYTES = 8


def emptied(engine: Engine) -> Catalog:
    """The catalog without any row but the flavors and fresh accounts."""
    with session_scope(engine, write=True) as session:
        for table in reversed(Row.metadata.sorted_tables):
            if table.name != "flavor":
                session.connection().execute(table.delete())
    catalog = Catalog(engine)
    limits: dict[str, Any] = {"max_images": MAX_IMAGES, "max_creations": MAX_CREATIONS, "max_bytes": MAX_BYTES}
    with catalog.write() as session:
        for name in ("alice", "bob"):
            change_account(session, name=name, change=AccountChange(**limits), by=Actor("admin"))
        for name in sorted(set(ACCOUNTS) - {"alice", "bob"}):
            roles = {"operator": name == OPERATOR, "reviewer": name == REVIEWER}
            catalog.account(session, name, **roles, limits=Limits(**limits))
    return catalog


def latest(rows: Mapping[Key, Belief], pick: int) -> Belief:
    """One of the rows, the newest for 0."""
    values = list(rows.values())
    return values[-1 - pick % len(values)]


def chosen(condition: bool, refusal: type[CatalogError]) -> Refusals:
    return {refusal} if condition else set()


class MarketSteps(RuleBasedStateMachine):
    """Steps on images and ECSs. Each asks the catalog and expects success, or one of the refusals that the rules give."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.catalog, self.market = emptied(engine), Market()
        self.touched: set[str] = set()
        self.changed, self.sound = False, True

    def attempt(self, refusals: Refusals, call: Callable[[Session], Result]) -> Result | None:
        """What the call gives in a transaction of its own; None where it was refused as it had to be."""
        self.market.tick += 1
        self.sound, result, refused = False, None, None
        try:
            with self.catalog.write() as session:
                result = call(session)
                self.changed = True
        except CatalogError as error:
            refused = error
        expected: set[type[CatalogError | None]] = {*refusals} or {type(None)}
        assert type(refused) in expected, f"{refused!r}, not one of {expected}"
        return None if refused else result

    def image(self, pick: int) -> ImageBelief:
        image = latest(self.market.images, pick)
        self.touched.add(image.id)
        return image

    def own(self, account: str, image: ImageBelief) -> Refusals:
        return chosen(not self.market.owns(account, image), NotVisible)

    def room(self, account: str, size: int) -> Refusals:
        return chosen(not self.market.has_room(account, size), QuotaReached)

    @rule(owner=st.sampled_from((*ACCOUNTS[:4], OPERATOR)), shape=st.sampled_from(["system", *SHAPES]), size=st.integers(8, 24))
    def bring_image(self, owner: str, shape: str, size: int) -> None:
        image = self.queue_image(NewImage(name="web", size=size), owner=owner, kinds=SHAPES[shape])
        if image is not None:
            self.finish_image(image)

    @rule(owner=st.sampled_from(ACCOUNTS), size=st.integers(0, 24), fails=st.booleans())
    def begin_image(self, owner: str, size: int, fails: bool) -> None:
        """An image that stays under way, or fails."""
        image = self.queue_image(NewImage(name="web", size=size), owner=owner, kinds=SHAPES["system"])
        if image is not None and fails:
            self.attempt(set(), lambda session: self._fail(session, image))
            image.state = "error"

    def queue_image(self, new: NewImage, *, owner: str, kinds: list[DiskKind]) -> ImageBelief | None:
        def create(session: Session) -> Image:
            image = create_image(session, new=new, by=Actor(owner))
            image.created_at = image.created_at.replace(microsecond=0)  # so that many are of one moment
            return image

        row = self.attempt(self.room(owner, new.size), create)
        if row is None:
            return None
        image = ImageBelief(row.id, owner, (row.created_at, row.id), kinds[0] is DiskKind.SYSTEM, len(kinds), new.size)
        image.parent, image.licences = new.parent_image_id, frozenset(new.licences)
        self.market.images[image.id] = image
        self.touched.add(image.id)
        return image

    @precondition(lambda self: any(image.state in ("queued", "error") for image in self.market.images.values()))
    @rule(pick=PICK)
    def go_on(self, pick: int) -> None:
        image = latest({row.id: row for row in self.market.images.values() if row.state in ("queued", "error")}, pick)
        if image.state == "queued":
            self.finish_image(image)
            return
        full = self.market.usage(image.owner).creations >= MAX_CREATIONS
        by = Actor(image.owner)
        self.attempt(
            chosen(full, QuotaReached),
            lambda session: requeue_image(session, image=session.get_one(Image, image.id), by=by),
        )
        image.state = image.state if full else "queued"

    def _fail(self, session: Session, image: ImageBelief) -> None:
        row = session.get_one(Image, image.id)
        fail_image(session, image=row, code="store.unavailable", message="gone", by=Actor(image.owner))

    def finish_image(self, image: ImageBelief) -> None:
        """Queued -> active, where the bytes fit."""
        kinds = SHAPES["data"] if not image.system else SHAPES["whole"][: image.disks]
        held = DISK_BYTES * len(kinds)
        more = max(0, held - image.held)
        full = more > 0 and self.market.usage(image.owner).bytes + more > MAX_BYTES

        def finish(session: Session) -> None:
            row, by = session.get_one(Image, image.id), Actor(image.owner)
            for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
                transition(session, subject=row, new=state, by=by)
            for index, kind in enumerate(kinds):
                facts = system_disk(digest=f"{len(self.market.images):064x}")
                record_disk(session, image=row, facts=facts.model_copy(update={"index": index, "kind": kind}))
            activate_image(session, image=row, by=by)

        self.attempt(chosen(full, QuotaReached), finish)
        if not full:
            image.state, image.held = "active", held
        self.touched.add(image.id)

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=WHO)
    def delete(self, pick: int, who: str | None) -> None:
        image = self.image(pick)
        account = who or image.owner
        kept = image.protected or self.market.built_from(image) or self.market.needed(image)
        refusals = self.own(account, image) | chosen(kept, DeletionRefused)
        if self.attempt(refusals, lambda session: delete_image(session, image_id=image.id, by=Actor(account))):
            image.state = "deleted"

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=WHO, active=st.booleans())
    def set_active(self, pick: int, who: str | None, active: bool) -> None:
        image = self.image(pick)
        account = who or image.owner
        before, after = ("deactivated", "active") if active else ("active", "deactivated")
        refusals = self.own(account, image) | chosen(image.state != before, TransitionRefused)
        revoked = active and image.revoked_by not in (None, account)
        refusals |= chosen(revoked or (not active and self.market.needed(image)), ImageRefused)
        if self.attempt(refusals, lambda session: set_active(session, image_id=image.id, active=active, by=Actor(account))):
            image.state, image.revoked_by = after, None

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=WHO, flag=st.sampled_from(["protected", "hidden", "deprecated"]), on=st.booleans())
    def set_flag(self, pick: int, who: str | None, flag: str, on: bool) -> None:
        image = self.image(pick)
        by = Actor(who or image.owner)
        past = utc_now() - timedelta(days=1) if on else None
        calls: dict[str, Callable[[Session], Image]] = {
            "protected": lambda session: set_protected(session, image_id=image.id, protected=on, by=by),
            "hidden": lambda session: set_hidden(session, image_id=image.id, hidden=on, by=by),
            "deprecated": lambda session: set_deprecated(session, image_id=image.id, at=past, by=by),
        }
        if self.attempt(self.own(by.account, image), calls[flag]):
            setattr(image, flag, on)

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, who=st.sampled_from([None, None, None, OPERATOR, *ACCOUNTS]), passed=st.sampled_from([True, True, False]))
    def make_public(self, pick: int, who: str | None, passed: bool) -> None:
        image = self.image(pick)
        account = who or image.owner
        bad = (not image.publishable and image.state == "active") or bool(image.licences) or not passed
        refusals = self.own(account, image) | chosen(account != OPERATOR, RoleNeeded)
        refusals |= chosen(image.state != "active", TransitionRefused) | chosen(bad, ImageRefused)

        def call(session: Session) -> Image:
            row = session.get_one(Image, image.id)
            scan = record_passage(session, image=row, passage=passage(Purpose.PUBLIC, passed=passed), by=Actor(account))
            return set_public(session, image_id=image.id, scan_id=scan.id, by=Actor(account))

        image.public = bool(self.attempt(refusals, call)) or image.public

    @precondition(lambda self: any(image.public for image in self.market.images.values()))
    @rule(pick=PICK, who=WHO)
    def take_back(self, pick: int, who: str | None) -> None:
        image = latest({row.id: row for row in self.market.images.values() if row.public}, pick)
        account = who or image.owner
        refusals = self.own(account, image) | chosen(account != OPERATOR, RoleNeeded)
        if self.attempt(refusals, lambda session: unset_public(session, image_id=image.id, by=Actor(account))):
            image.public = False
        self.touched.add(image.id)

    @precondition(lambda self: self.market.images)
    @rule(pick=PICK, account=TAKER)
    def launch(self, pick: int, account: str) -> None:
        image = self.image(pick)
        refusals = chosen(self.market.kind(account, image) is None, NotVisible)
        refusals |= chosen(image.state != "active", TransitionRefused) | chosen(not image.system, FieldInvalid)
        new = NewEcs(name="web-1", image_id=image.id, host="here")
        row = self.attempt(refusals, lambda session: create_ecs(session, new=new, by=Actor(account)))
        if row is not None:
            licences = self.market.binding(account, image)
            assert frozenset(licences_on(row)) == licences
            self.market.ecs[row.id] = EcsBelief(row.id, account, image.id, image.system, image.disks, licences)

    @precondition(lambda self: self.market.ecs)
    @rule(pick=PICK, deletes=st.booleans())
    def move_ecs(self, pick: int, deletes: bool) -> None:
        ecs = latest(self.market.ecs, pick)
        ready = Readiness(ready_by=BootProof.AGENT, seconds_to_ready=1.0, accelerator="tcg")
        by = Actor(ecs.owner)
        if deletes and ecs.state != EcsState.DELETED:
            self.attempt(set(), lambda session: delete_ecs(session, ecs=session.get_one(Ecs, ecs.id), by=by))
            ecs.state = "deleted"
        elif ecs.state == EcsState.BUILDING:
            self.attempt(set(), lambda s: mark_ready(s, ecs=s.get_one(Ecs, ecs.id), readiness=ready, by=by))
            ecs.state = "active"

    @precondition(lambda self: any(ecs.state == "active" for ecs in self.market.ecs.values()))
    @rule(pick=PICK)
    def capture(self, pick: int) -> None:
        ecs = latest({row.id: row for row in self.market.ecs.values() if row.state == "active"}, pick)
        with self.catalog.read() as session:
            licences = licences_on(get_ecs(session, account=ecs.owner, ecs_id=ecs.id))
        new = NewImage(name="copy", size=12, parent_image_id=ecs.image, source_ecs_id=ecs.id, licences=licences)
        image = self.queue_image(new, owner=ecs.owner, kinds=SHAPES["whole"][: ecs.disks])
        if image is not None:
            assert image.licences == ecs.licences
            self.finish_image(image)
