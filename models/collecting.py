"""What writers of disks and the garbage collector tell each other, so that nothing is deleted that a disk comes to need.

Every step locks the gate's row first, so that they happen one after the other; an operation's row, where one is needed, is
locked before it. The argument is docs/adr/0011-collecting.md, the two sides are `tasks.engine.blobs.keeping` and `collecting`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, union, update
from sqlmodel import Session, col, select

from models.exceptions import FieldInvalid, LeaseLost
from models.operations import Lease, heartbeat, require_lease
from models.store_tables import CondemnedObject, DamagedObject, HeldDisk, StoreGate, StoreWriter
from models.tables import Disk, Ecs, EcsDisk, Image, Operation
from models.vocabulary import EcsState, Fate, ImageState

BATCH = 5000
"""Keys in one statement, well below what both databases take."""


class Registered(NamedTuple):
    """A writer, and the keys of objects that it must not rely on."""

    token: str
    epoch: int
    damaged: frozenset[str]


class Hold(NamedTuple):
    """Nothing `doubtful` or `going`: the disk is held. Else see `tasks.engine.blobs.keeping.Verdict`."""

    epoch: int
    doubtful: frozenset[str]
    going: frozenset[str]


def register_writer(session: Session, *, lease: Lease) -> Registered:
    """Begin to store a disk: from now on every deletion is remembered for it. A run stores one disk at a time.

    Raises LeaseLost.
    """
    require_lease(session, lease=lease)
    gate = locked_gate(session)
    writer = StoreWriter(operation_id=lease.operation_id, token=str(uuid.uuid4()), epoch=gate.epoch)
    session.merge(writer)
    session.flush()
    return Registered(writer.token, gate.epoch, frozenset(session.exec(select(DamagedObject.key)).all()))


def hold_disk(
    session: Session, *, lease: Lease, token: str, digest: str, keys: Collection[str], proved: Mapping[str, int]
) -> Hold:
    """Keep a manifest and everything in it until the operation is done or its image deleted, or say what stands against it.

    `keys` are the disk's objects, `proved` those that were read, each with the epoch after which it was. What the collector
    published of them is taken back whatever the answer. Raises LeaseLost, also where the run began another disk since.
    """
    operation = require_lease(session, lease=lease)
    if operation.subject_id is None:
        raise FieldInvalid("subject", "the operation has no image that a disk could be held for")
    gate = locked_gate(session)
    writer = session.get(StoreWriter, lease.operation_id)
    if writer is None or writer.token != token:
        raise LeaseLost(lease.operation_id)
    _take_back(session, keys)
    going, doubtful = _against(session, keys, proved, since=writer.epoch)
    if not going and not doubtful:
        _remove(session, DamagedObject, [key for key in proved if key in keys])
        session.merge(HeldDisk(operation_id=lease.operation_id, digest=digest))
        session.delete(writer)
    session.flush()
    return Hold(gate.epoch, frozenset(doubtful), frozenset(going))


def referenced_digests(session: Session) -> set[str]:
    """Manifests that are needed: of disks of images not deleted, under ECSs that are neither deleted nor standalone, as what
    the next capture of an ECS builds on, and held by a run that is not done. One statement, so one look."""
    by_images = select(Disk.digest).join(Image).where(Image.state != ImageState.DELETED, col(Disk.digest).is_not(None))
    by_guests = select(EcsDisk.base_digest).join(Ecs).where(Ecs.state != EcsState.DELETED, col(Ecs.standalone).is_(False))
    by_captures = select(EcsDisk.checkpoint_digest).join(Ecs).where(Ecs.state != EcsState.DELETED)
    made = select(HeldDisk.digest).join(Operation).join(Image, col(Image.id) == col(Operation.subject_id))
    by_runs = made.where(Image.state != ImageState.DELETED)
    found = session.connection().execute(union(by_images, by_guests, by_captures, by_runs))
    return {digest for (digest,) in found if digest is not None}


def begin_collection(session: Session, *, lease: Lease) -> Sequence[str]:
    """Forget what earlier collectors published. Returns what they were granted and never settled. Raises LeaseLost."""
    _hold_gate(session, lease)
    session.exec(delete(CondemnedObject).where(col(CondemnedObject.fate) == Fate.PUBLISHED))
    return session.exec(select(CondemnedObject.key).where(CondemnedObject.fate == Fate.GRANTED)).all()


def publish(session: Session, *, lease: Lease, keys: Collection[str]) -> None:
    """Say that objects, which are there, seem to be garbage; granted ones stay what they are. Raises LeaseLost."""
    _hold_gate(session, lease)
    for batch in _batches(keys):
        named = col(CondemnedObject.key).in_(batch)
        session.exec(delete(CondemnedObject).where(named, col(CondemnedObject.fate) != Fate.GRANTED))
        granted = set(session.exec(select(CondemnedObject.key).where(named)).all())
        rows = [
            {"key": key, "fate": Fate.PUBLISHED, "collector": lease.operation_id, "epoch": 0}
            for key in batch
            if key not in granted
        ]
        if rows:
            session.connection().execute(CondemnedObject.__table__.insert(), rows)  # type: ignore[attr-defined]


def spare(session: Session, *, lease: Lease, keys: Collection[str]) -> None:
    """Take back what was published. Raises LeaseLost."""
    _hold_gate(session, lease)
    _take_back(session, keys)


def grant(session: Session, *, lease: Lease, keys: Collection[str], at: datetime) -> set[str]:
    """Those of the published keys that nobody took back, which the collector deletes now. Raises LeaseLost."""
    _hold_gate(session, lease)
    granted: set[str] = set()
    for batch in _batches(keys):
        mine = (
            col(CondemnedObject.key).in_(batch),
            col(CondemnedObject.fate) == Fate.PUBLISHED,
            col(CondemnedObject.collector) == lease.operation_id,
        )
        granted.update(session.exec(select(CondemnedObject.key).where(*mine)).all())
        session.exec(update(CondemnedObject).where(*mine).values(fate=Fate.GRANTED, granted_at=at))
    return granted


def take_over(session: Session, *, lease: Lease, keys: Collection[str], before: datetime, at: datetime) -> set[str]:
    """Those of the keys that were granted before that time and are not settled: who takes them over deletes them, nobody else.

    Raises LeaseLost.
    """
    _hold_gate(session, lease)
    taken: set[str] = set()
    for batch in _batches(keys):
        old = (
            col(CondemnedObject.key).in_(batch),
            col(CondemnedObject.fate) == Fate.GRANTED,
            col(CondemnedObject.granted_at) < before,
        )
        taken.update(session.exec(select(CondemnedObject.key).where(*old)).all())
        session.exec(update(CondemnedObject).where(*old).values(collector=lease.operation_id, granted_at=at))
    return taken


def settle(session: Session, *, lease: Lease, keys: Collection[str]) -> int:
    """Note that granted keys are deleted for certain. Returns how many deletions running writers must still hear of.

    Raises LeaseLost.
    """
    gate = _hold_gate(session, lease)
    gate.epoch += 1
    session.add(gate)
    for batch in _batches(keys):
        mine = col(CondemnedObject.key).in_(batch), col(CondemnedObject.fate) == Fate.GRANTED
        session.exec(update(CondemnedObject).where(*mine).values(fate=Fate.DELETED, epoch=gate.epoch))
    _remove(session, DamagedObject, keys)
    oldest = session.exec(select(func.min(StoreWriter.epoch))).one()
    known = gate.epoch if oldest is None else oldest
    deleted = col(CondemnedObject.fate) == Fate.DELETED
    session.exec(delete(CondemnedObject).where(deleted, col(CondemnedObject.epoch) <= known))
    return int(session.exec(select(func.count()).select_from(CondemnedObject).where(deleted)).one())


def mark_damaged(session: Session, *, found: Mapping[str, str]) -> None:
    """Note objects that cannot be read, each with the reason: the next disk that has them sends them again."""
    gate = locked_gate(session)
    gate.epoch += 1
    session.add(gate)
    for key, reason in found.items():
        session.merge(DamagedObject(key=key, reason=reason[:255], epoch=gate.epoch))
    session.flush()


def clear_damaged(session: Session, *, keys: Collection[str], epoch: int) -> None:
    """Forget damage of objects that were read well after `epoch`, unless it was found again since."""
    locked_gate(session)
    for batch in _batches(keys):
        session.exec(delete(DamagedObject).where(col(DamagedObject.key).in_(batch), col(DamagedObject.epoch) <= epoch))


def damaged_objects(session: Session) -> Sequence[DamagedObject]:
    """What is known to be damaged, in the order of keys."""
    return session.exec(select(DamagedObject).order_by(DamagedObject.key)).all()


def store_gate(session: Session) -> StoreGate:
    """The gate's row, to be looked at."""
    return session.get_one(StoreGate, 1)


def locked_gate(session: Session) -> StoreGate:
    """The gate's row, to be changed; whoever has it is alone until the transaction ends."""
    query = select(StoreGate).where(StoreGate.id == 1).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).one()


def _hold_gate(session: Session, lease: Lease) -> StoreGate:
    """The gate for a collector that nobody took over."""
    heartbeat(session, lease=lease)
    return locked_gate(session)


def _against(session: Session, keys: Collection[str], proved: Mapping[str, int], *, since: int) -> tuple[list[str], list[str]]:
    """What of the keys is being deleted, and what was deleted or found damaged since the writer looked."""
    rows = select(CondemnedObject.key, CondemnedObject.fate, CondemnedObject.epoch)
    going, doubtful = [], []
    for key, fate, epoch in session.exec(rows.where(CondemnedObject.fate != Fate.PUBLISHED)):
        if fate is Fate.GRANTED and key in keys:
            going.append(key)
        elif fate is Fate.DELETED and epoch > proved.get(key, since) and key in keys:
            doubtful.append(key)
    for key, epoch in session.exec(select(DamagedObject.key, DamagedObject.epoch)):
        if epoch > proved.get(key, -1) and key in keys:
            doubtful.append(key)
    return going, doubtful


def _take_back(session: Session, keys: Collection[str]) -> None:
    published = session.exec(select(CondemnedObject.key).where(CondemnedObject.fate == Fate.PUBLISHED)).all()
    _remove(session, CondemnedObject, [key for key in published if key in keys])


def _remove(session: Session, table: type[CondemnedObject] | type[DamagedObject], keys: Collection[str]) -> None:
    for batch in _batches(keys):
        session.exec(delete(table).where(col(table.key).in_(batch)))


def _batches(keys: Collection[str]) -> Iterator[list[str]]:
    every = list(keys)
    return (every[start : start + BATCH] for start in range(0, len(every), BATCH))
