"""A victim that owns one of everything, planted beside a stranger in any migrated catalog, and its marks. No tests here."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from sqlmodel import Session

from models.accounts import create_account
from models.ecs import NewEcs, Readiness, create_ecs, delete_ecs, mark_ready
from models.facts import BootReport, DiskFacts
from models.gate import Passage, record_passage
from models.image_changes import activate_image, fail_image, record_boot, record_capture, record_disk, set_active
from models.images import NewImage, create_image, delete_image
from models.keys import list_keys, rotate_key
from models.listings import subscribe
from models.locks import lock_ecs
from models.market_tables import Scan, Version
from models.operations import Begun, Owner, Request, begin_operation, bind_subject, finish
from models.sharing import accept_share, share_image
from models.states import transition
from models.tables import Ecs, Image, Row, utc_now
from models.trail import Actor
from models.versions import (
    NewVersion,
    Verdict,
    begin_scan,
    decide,
    end_scan,
    licence_digest,
    submit_version,
    withdraw_version,
)
from models.vocabulary import BootProof, Consistency, Decision, DiskKind, ImageState, Purpose, WithdrawnFor

VICTIM, STRANGER, THIRD, FOURTH, REVIEWER, PUBLISHER = (
    f"walk-{name}" for name in ("victim", "stranger", "third", "fourth", "reviewer", "publisher")
)
MARK = "hermes"
"""In every name and text of the victim's, and in nobody else's."""
PRODUCT, LICENCE = "Common product", "Everybody may read this."
HOST = "elsewhere"
_TOKEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{64}\b")
_TIME = re.compile(r"datetime\.datetime\([^()]*\)")


@dataclass
class Planted:
    """What there is to ask about, by kind and label: ids and names of the victim's. `own` are the stranger's own, by kind."""

    subjects: dict[str, dict[str, str]] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    traces: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()

    def add(self, kind: str, label: str, value: str) -> str:
        return self.subjects.setdefault(kind, {}).setdefault(label, value)

    def traced(self, text: str) -> list[str]:
        """Marks of the victim's in a text."""
        return sorted(mark for mark in self.traces if mark in text)

    def harmed(self, session: Session) -> list[str]:
        """Rows of the victim's that are not as they were planted."""
        now = {row for rows in rows_of(session).values() for row in rows}
        return sorted(self.rows - now)


def absent(kind: str) -> str:
    """An id, or a name, of what never was."""
    if kind in ("account", "image_name", "ecs_name", "title", "series", "idempotency_key"):
        return "never-was"
    return str(uuid.uuid4())


def as_nobody(text: str) -> str:
    """The text without what differs by chance: ids and times."""
    return _TIME.sub("TIME", _TOKEN.sub("ID", text))


def rows_of(session: Session) -> dict[str, list[str]]:
    """Every row of the catalog, as text."""
    tables = Row.metadata.sorted_tables
    return {table.name: sorted(map(repr, session.connection().execute(table.select()))) for table in tables}


def tokens(session: Session) -> set[str]:
    """Every id and digest in the catalog."""
    return {token for rows in rows_of(session).values() for row in rows for token in _TOKEN.findall(row)}


def plant_others(session: Session) -> Planted:
    """The stranger with an image and an ECS, third parties, a reviewer, and a product that everybody may see."""
    planted = Planted()
    for name in (STRANGER, THIRD, FOURTH, REVIEWER, PUBLISHER):
        made = create_account(session, name=name, reviewer=name == REVIEWER, by=Actor("admin"))
        planted.keys[name] = made.api_key
    image = _active(session, "of my own", owner=STRANGER)
    planted.own = {"image": image.id, "ecs": _ecs(session, "of-my-own", image=image, owner=STRANGER).id}
    _active(session, "of a third", owner=THIRD)
    offered = _active(session, "common", owner=PUBLISHER)
    version = _submit(session, offered, title=PRODUCT, name="1.0", licence=LICENCE)
    _review(session, version, _scan(session, offered, text="nothing"))
    _approve(session, version)
    planted.own["listing"] = version.listing_id
    return planted


def plant_victim(session: Session, planted: Planted) -> None:
    """The victim and all that it owns."""
    before = tokens(session)
    planted.keys[VICTIM] = create_account(session, name=VICTIM, by=Actor("admin")).api_key
    rotate_key(session, name=VICTIM, grace_hours=1, by=Actor(VICTIM))
    for label, key in zip(("new", "old"), list_keys(session, account=VICTIM), strict=True):
        planted.add("key", label, key.id)
    planted.add("account", "name", VICTIM)
    _plant_images(session, planted)
    _plant_ecs(session, planted)
    _plant_operations(session, planted)
    _plant_versions(session, planted)
    subscribe(session, listing_id=planted.own["listing"], licence_digest=licence_digest(LICENCE), by=Actor(VICTIM))
    planted.traces = frozenset(tokens(session) - before) | {MARK, VICTIM}
    planted.rows = frozenset(row for rows in rows_of(session).values() for row in rows if planted.traced(row))


def _plant_images(session: Session, planted: Planted) -> None:
    by = Actor(VICTIM)
    images = {label: _active(session, f"{MARK} {label}") for label in ("active", "shared", "off", "deleted", "published")}
    images |= {label: _queued(session, f"{MARK} {label}") for label in ("queued", "error")}
    fail_image(session, image=images["error"], code="disk.format", message=f"{MARK} is no disk", by=by)
    set_active(session, image_id=images["off"].id, active=False, by=by)
    delete_image(session, image_id=images["deleted"].id, by=by)
    share_image(session, image_id=images["shared"].id, accounts=[THIRD, FOURTH], by=by)
    accept_share(session, image_id=images["shared"].id, by=Actor(THIRD))
    for label, image in images.items():
        planted.add("image", label, image.id)
        planted.add("image_name", label, image.name)


def _plant_ecs(session: Session, planted: Planted) -> None:
    base = session.get_one(Image, planted.subjects["image"]["active"])
    for label in ("active", "locked", "deleted"):
        ecs = _ecs(session, f"{MARK}-{label}", image=base)
        planted.add("ecs", label, ecs.id)
        planted.add("ecs_name", label, ecs.name)
    delete_ecs(session, ecs=ecs, by=Actor(VICTIM))
    source = planted.subjects["ecs"]["active"]
    captured = _active(session, f"{MARK} of series", parent=base.id, source_ecs=source, series=f"{MARK} nightly")
    record_capture(session, image=captured, consistency=Consistency.CRASH, detail={"console": MARK})
    planted.add("image", "captured", captured.id)
    planted.add("series", "name", f"{MARK} nightly")


def _plant_operations(session: Session, planted: Planted) -> None:
    fingerprint = planted.add("fingerprint", "running", _digest("request"))
    running = _begin(session, f"{MARK}-running", fingerprint=fingerprint)
    assert running.lease is not None
    bind_subject(session, lease=running.lease, subject_id=planted.subjects["image"]["queued"])
    lock_ecs(
        session,
        ecs_id=planted.subjects["ecs"]["locked"],
        operation_id=running.operation.id,
        is_alive=lambda owner: True,
    )
    done = _begin(session, f"{MARK}-done")
    assert done.lease is not None
    finish(session, lease=done.lease, result={"name": MARK})
    for label, begun in (("running", running), ("done", done)):
        planted.add("operation", label, begun.operation.id)
        planted.add("idempotency_key", label, begun.operation.key)


def _plant_versions(session: Session, planted: Planted) -> None:
    """A listing with a version in every state but listed."""
    image, by = session.get_one(Image, planted.subjects["image"]["published"]), Actor(VICTIM)
    versions = {
        label: _submit(session, image, title=f"{MARK} product", name=f"{MARK}-{label}", licence=f"All of {MARK}.")
        for label in ("draft", "scanning", "in_review", "rejected", "withdrawn", "closed")
    }
    begin_scan(session, version=versions["scanning"], by=by)
    for label in ("in_review", "rejected", "withdrawn", "closed"):
        scan = _scan(session, image, text=f"{MARK} report", passed=label != "rejected")
        planted.add("scan", label, scan.id)
        _review(session, versions[label], scan)
    withdraw_version(session, version_id=versions["withdrawn"].id, scope=WithdrawnFor.ALL, by=by)
    _approve(session, versions["closed"])
    withdraw_version(session, version_id=versions["closed"].id, scope=WithdrawnFor.NEW, by=by)
    for label, version in versions.items():
        planted.add("version", label, version.id)
    planted.add("listing", "id", versions["draft"].listing_id)
    planted.add("title", "name", f"{MARK} product")


def _queued(session: Session, name: str, *, owner: str = VICTIM, **more: str | None) -> Image:
    text = MARK if owner == VICTIM else "common"
    new = NewImage(
        name=name,
        size=8,
        source=f"/{text}/disk.raw",
        description=text,
        tags=[text],
        properties={text: text},
        parent_image_id=more.get("parent"),
        source_ecs_id=more.get("source_ecs"),
        series=more.get("series"),
    )
    return create_image(session, new=new, by=Actor(owner))


def _active(session: Session, name: str, *, owner: str = VICTIM, **more: str | None) -> Image:
    image = _queued(session, name, owner=owner, **more)
    for state in (ImageState.TRANSFERRING, ImageState.VERIFYING):
        transition(session, subject=image, new=state, by=Actor(owner))
    sizes = {"virtual_size": 1 << 30, "data_bytes": 8, "stored_bytes": 4, "new_bytes": 2}
    facts = DiskFacts.model_validate({"index": 0, "kind": DiskKind.SYSTEM, "digest": _digest(name), **sizes})
    record_disk(session, image=image, facts=facts)
    detail = {"console": MARK if owner == VICTIM else "common"}
    record_boot(session, image=image, report=BootReport(BootProof.LOGIN, detail))
    activate_image(session, image=image, by=Actor(owner))
    return image


def _ecs(session: Session, name: str, *, image: Image, owner: str = VICTIM) -> Ecs:
    new = NewEcs(name=name, image_id=image.id, host=HOST, flavor="tiny", data_disks_gib=[1])
    row = create_ecs(session, new=new, by=Actor(owner))
    ready = Readiness(ready_by=BootProof.LOGIN, seconds_to_ready=1.0, accelerator="tcg")
    mark_ready(session, ecs=row, readiness=ready, by=Actor(owner))
    return row


def _begin(session: Session, key: str, *, fingerprint: str = "") -> Begun:
    """Run by another host for a day, so that nobody's clean-up takes it up meanwhile."""
    request = Request(kind="import", account=VICTIM, key=key, fingerprint=fingerprint)
    owner = Owner(HOST, 1, "0")
    return begin_operation(session, request=request, owner=owner, is_alive=lambda owner: True, lease_seconds=86400)


def _submit(session: Session, image: Image, *, title: str, name: str, licence: str) -> Version:
    said = {"summary": title, "description": title, "support_contact": title, "licence": licence}
    new = NewVersion(image_id=image.id, title=title, name=name, categories=[title.split()[0].lower()], **said)
    return submit_version(session, new=new, by=Actor(image.owner))


def _scan(session: Session, image: Image, *, text: str, passed: bool = True) -> Scan:
    found = {"code": "x.y", "severity": "warning", "path": f"/{text}", "detail": text, "remedy": text}
    passage = Passage(purpose=Purpose.PUBLISH, passed=passed, findings=[found], report=text, sbom=text)
    return record_passage(session, image=image, passage=passage, by=Actor(image.owner))


def _review(session: Session, version: Version, scan: Scan) -> None:
    begin_scan(session, version=version, by=Actor(version.owner))
    verdict = Verdict(scan_id=scan.id, passed=scan.passed, review_until=utc_now() + timedelta(days=1))
    end_scan(session, version=version, verdict=verdict, by=Actor(version.owner))


def _approve(session: Session, version: Version) -> None:
    decide(session, version_id=version.id, decision=Decision.APPROVE, note="", by=Actor(REVIEWER))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
