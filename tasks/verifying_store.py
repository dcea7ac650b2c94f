"""Steps of a verification: what is read this time, the reading, what it found and whom that harms, and a report of it.

The reading itself is `tasks.engine.blobs.verifying`; that a writer sends again what was found, `models.collecting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from math import ceil

from prefect import task
from pydantic import BaseModel

from models.collecting import clear_damaged, damaged_objects, locked_gate, mark_damaged, referenced_digests, store_gate
from models.known import Holder, holders_of
from models.operations import heartbeat
from models.rows import utc_now
from models.store_tables import StoreGate
from tasks.engine.blobs.chunks import ChunkStore
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.blobs.verifying import FOLDERS, Verified, harmed, recheck, verify
from tasks.engine.settings import load_settings
from tasks.events import tell
from tasks.files import scratch_of
from tasks.markdown import cell, size, table
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress, log
from tasks.reports import publish
from tasks.resources import catalog, images_bucket
from tasks.sagas import Saga

CYCLE_DAYS = 28
"""Every chunk is read once in so many days, as long as there is a run a day."""


class Plan(BaseModel):
    """Which folders of chunks a run reads, and what of the catalog it began with."""

    first: int
    count: int
    epoch: int

    @property
    def folders(self) -> list[int]:
        return [(self.first + each) % FOLDERS for each in range(self.count)]


class Seen(BaseModel):
    """What a run saw; `found` are reasons by key, `healed` what was damaged and is well now."""

    manifests: int
    chunks: int
    chunks_read: int
    stored_bytes: int
    found: dict[str, str]
    healed: list[str]


class Harm(BaseModel):
    """An image or ECS that something damaged belongs to."""

    kind: str
    id: str
    name: str
    owner: str


class Fault(BaseModel):
    """An object that cannot be read."""

    key: str
    reason: str
    harms: list[Harm]


class VerificationView(BaseModel):
    """What a verification found. `faults` has what is damaged now; `cycle_began_at` is when this round of all chunks began."""

    manifests: int
    chunks: int
    chunks_read: int
    stored_bytes: int
    faults: list[Fault]
    healed: list[str]
    cycle_began_at: datetime | None


@task(**RETRIED, task_run_name="plan")
def plan_reading(everything: bool) -> Plan:
    """The folders that are due: enough that the cycle ends in time, all of them if asked."""
    with catalog() as session:
        gate = store_gate(session)
    count = FOLDERS if everything else folders_due(gate.verified_next, began=gate.cycle_began_at, now=utc_now())
    return Plan(first=0 if everything else gate.verified_next, count=count, epoch=gate.epoch)


@task(**ONCE, task_run_name="read")
def read_store(saga: Saga, plan: Plan) -> Seen:
    """Read what is due. What seems lost is asked for once more, as is what was damaged before."""
    store = ChunkStore(images_bucket())
    digests = _needed()
    folder = scratch_of(saga)
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("Verify")
    done = verify(
        store,
        digests,
        folders=frozenset(plan.folders),
        folder=folder,
        threads=load_settings().import_threads,
        on_progress=partial(_show, progress),
    )
    with catalog() as session:
        known = {row.key for row in damaged_objects(session)}
    found = recheck(store, done.found.keys() | known)
    return Seen(
        manifests=done.manifests,
        chunks=done.chunks,
        chunks_read=done.chunks_read,
        stored_bytes=done.stored_bytes,
        found=found,
        healed=sorted(known - found.keys()),
    )


@task(**RETRIED, task_run_name="note findings")
def note_findings(saga: Saga, plan: Plan, seen: Seen) -> VerificationView:
    """Note what is damaged, so that the next image that contains it sends it again, and what is well again."""
    digests = _needed()  # what nothing needs any more may be gone rightly
    needing = harmed(ChunkStore(images_bucket()), digests, seen.found)
    found = {key: seen.found[key] for key, disks in needing.items() if disks}
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        if found:
            mark_damaged(session, found=found)
        clear_damaged(session, keys=seen.healed, epoch=plan.epoch)
        gate = locked_gate(session)
        _advance(gate, plan)
        session.add(gate)
        holders = holders_of(session, digests=set().union(*needing.values()))
    faults = [Fault(key=key, reason=reason, harms=_harms(holders, needing[key])) for key, reason in sorted(found.items())]
    for fault in faults:
        log.warning("%s: %s", fault.key, fault.reason)
    return VerificationView(
        manifests=seen.manifests,
        chunks=seen.chunks,
        chunks_read=seen.chunks_read,
        stored_bytes=seen.stored_bytes,
        faults=faults,
        healed=seen.healed,
        cycle_began_at=gate.cycle_began_at,
    )


@task(**ONCE, task_run_name="report")
def report_verification(saga: Saga, view: VerificationView) -> VerificationView:
    """Publish what was found, and tell of each image that is harmed."""
    publish(key="store-verify", text=verification_markdown(view), title="Store verification")
    told = {harm.id: harm for fault in view.faults for harm in fault.harms if harm.kind == "image"}
    for harm in told.values():
        faults = sum(any(each.id == harm.id for each in fault.harms) for fault in view.faults)
        tell("image.damaged", kind="image", subject=harm.id, name=harm.name, owner=harm.owner, objects=faults)
    saga.result = view.model_dump(mode="json")
    return view


def folders_due(first: int, *, began: datetime | None, now: datetime) -> int:
    """How many folders a run reads so that the rest of the cycle fits into the days that are left of it."""
    least = ceil(FOLDERS / CYCLE_DAYS)
    if began is None or first == 0:
        return least
    left = max(1.0, CYCLE_DAYS - (now - began) / timedelta(days=1))
    return min(FOLDERS - first, max(least, ceil((FOLDERS - first) / left)))


def verification_markdown(view: VerificationView) -> str:
    """A person's reading of it."""
    read = (
        f"{view.manifests} disks read, {view.chunks:,} chunks looked up ({size(view.stored_bytes)}), {view.chunks_read:,} read."
    )
    parts = [f"# Store verification\n\n{read} {len(view.faults)} objects are damaged or missing."]
    if view.faults:
        rows = [(f"`{each.key}`", cell(each.reason), _names(each.harms)) for each in view.faults]
        parts.append(table(("Object", "What is wrong", "Harms"), rows))
        parts.append("An import or a whole capture (`--whole`) of anything that contains a damaged object stores it again.")
    if view.healed:
        parts.append("Well again: " + ", ".join(f"`{key}`" for key in view.healed))
    return "\n\n".join(parts)


def _advance(gate: StoreGate, plan: Plan) -> None:
    """Move the cycle on by what was read; `everything` is a cycle of its own."""
    now = utc_now()
    if plan.first == 0:
        gate.cycle_began_at = now
    ahead = plan.first + plan.count
    gate.verified_next = ahead % FOLDERS
    if ahead >= FOLDERS:
        gate.cycle_ended_at = now


def _needed() -> set[ManifestDigest]:
    with catalog() as session:
        return {ManifestDigest(digest) for digest in referenced_digests(session)}


def _harms(holders: Sequence[Holder], digests: set[ManifestDigest]) -> list[Harm]:
    seen = {(each.kind, each.id): each for each in holders if each.digest in digests}
    return [Harm(kind=each.kind, id=each.id, name=each.name, owner=each.owner) for each in seen.values()]


def _names(harms: Sequence[Harm]) -> str:
    return cell(", ".join(f"{harm.kind} {harm.name} of {harm.owner} ({harm.id})" for harm in harms))


def _show(progress: Progress, done: Verified) -> None:
    progress(done.stored_bytes)
