"""The operations that are put through faults: their command, what it must have come to, and what the run keeps of it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlmodel import col, select

from benchmarks.deployment import own_guests
from benchmarks.faults.drawing import Draw
from benchmarks.faults.world import Answer, World
from models.tables import Ecs, Image
from models.vocabulary import EcsState, ImageState
from tasks.disks import stored_disk
from tasks.engine.blobs.manifest import ManifestDigest
from tasks.engine.geometry import CHUNK_SIZE
from tasks.resources import catalog

SHARED_CHUNKS = 12
FEWEST, MOST = 2, 6
"""Chunks of a disk; half of them are shared with others."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`kind` is lost, double, left, stuck or unclean."""

    kind: str
    text: str


@dataclass
class Ledger:
    """What must be there: images by id with the SHA-256 of their disk (None: the disk of a running guest), ECSs by id."""

    images: dict[str, str | None] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ecs: dict[str, str] = field(default_factory=dict)
    guest: str = ""
    steady: str = ""

    def spare_images(self) -> list[str]:
        """Those that a round may delete."""
        return sorted(each for each in self.images if each != self.guest)

    def spare_ecs(self) -> list[str]:
        return sorted(each for each in self.ecs if each != self.steady)


@dataclass(frozen=True)
class Operation:
    """One command; `prove` looks at what a successful answer says and gives what is wrong."""

    arguments: list[str]
    prove: Callable[[Answer], list[Problem]]
    deployment: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    """What the same command asks of the worker; no deployment: it is not handed over."""
    gone: str = ""
    """The error's code that says that an earlier attempt did it already."""

    def did(self, answer: Answer) -> bool:
        """Whether this attempt, or one before it, did it."""
        return answer.status == 0 or bool(self.gone and answer.code == self.gone)


def make_operation(world: World, ledger: Ledger, draw: Draw) -> Operation:
    """The operation of a round; an import where there is nothing that it could be done to."""
    if draw.operation == "import guest" and (world.files / "guest.raw").exists():
        return _import(ledger, world.files / "guest.raw", f"guest-{draw.number}", verify="boot")
    if draw.operation == "launch" and ledger.guest:
        return _launch(world, ledger, f"ecs-{draw.number}")
    if draw.operation == "capture" and ledger.steady:
        return _capture(ledger, f"capture-{draw.number}")
    if draw.operation == "delete image" and (images := ledger.spare_images()):
        return _delete_image(ledger, random.Random(draw.seed).choice(images))
    if draw.operation == "delete ECS" and (ecs := ledger.spare_ecs()):
        return _delete_ecs(world, ledger, random.Random(draw.seed).choice(ecs))
    if draw.operation == "collect":
        arguments = ["store", "gc", "--apply", "--keep-hours", "0"]
        return Operation(arguments, lambda _answer: [], "collect-garbage", {"apply": True, "keep_hours": 0})
    disk = make_disk(world.files / f"disk-{draw.number}.raw", draw.seed)
    return _import(ledger, disk, f"disk-{draw.number}", verify="none")


def make_disk(path: Path, seed: int) -> Path:
    """A raw data disk of some chunks, about half of them shared with other disks."""
    drawn = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(drawn.randint(FEWEST, MOST)):
            shared = drawn.random() < 0.5
            source = random.Random(f"shared {drawn.randrange(SHARED_CHUNKS)}") if shared else drawn
            file.write(source.randbytes(CHUNK_SIZE))
    return path


def content_of(image: Image) -> str:
    """SHA-256 of the first disk's raw bytes, every chunk of it read from the store."""
    manifest, read = stored_disk(ManifestDigest(str(image.disks[0].digest)))
    summed = hashlib.sha256()
    for place in range(0, manifest.virtual_size, CHUNK_SIZE):
        summed.update(read(place, CHUNK_SIZE))
    return summed.hexdigest()


def living_images(name: str) -> list[Image]:
    """Rows of that name that are not deleted."""
    with catalog() as session:
        found = session.exec(select(Image).where(Image.name == name, col(Image.state) != ImageState.DELETED)).all()
        for each in found:
            session.expunge(each)
        return list(found)


def living_ecs(name: str) -> list[Ecs]:
    """Rows of that name that are not deleted."""
    with catalog() as session:
        found = session.exec(select(Ecs).where(Ecs.name == name, col(Ecs.state) != EcsState.DELETED)).all()
        for each in found:
            session.expunge(each)
        return list(found)


def _import(ledger: Ledger, disk: Path, name: str, *, verify: str) -> Operation:
    wanted = hashlib.sha256(disk.read_bytes()).hexdigest()

    def prove(answer: Answer) -> list[Problem]:
        problems = _one_active(answer, name)
        if not problems:
            (image,) = living_images(name)
            if content_of(image) != wanted:
                problems.append(Problem("lost", f"image {name} does not hold what was imported"))
            ledger.images[image.id], ledger.names[image.id] = wanted, name
        return problems

    arguments = ["image", "import", str(disk), "--format", "raw", "--name", name, "--verify", verify]
    parameters = {"source": str(disk), "format": "raw", "name": name, "verify": verify, **_keyed(name)}
    return Operation([*arguments, "--idempotency-key", name], prove, "import-image", parameters)


def _keyed(key: str) -> dict[str, object]:
    return {"options": {"idempotency_key": key}}


def _one_active(answer: Answer, name: str) -> list[Problem]:
    found = living_images(name)
    if len(found) > 1:
        return [Problem("double", f"{len(found)} images are named {name}")]
    if not found or found[0].state is not ImageState.ACTIVE or found[0].id != answer.values.get("id"):
        states = [f"{each.id} {each.state}" for each in found]
        return [Problem("lost", f"image {name} was reported as {answer.values.get('id')}, the catalog has {states}")]
    return []


def _launch(world: World, ledger: Ledger, name: str) -> Operation:
    def prove(answer: Answer) -> list[Problem]:
        found = living_ecs(name)
        if len(found) > 1:
            return [Problem("double", f"{len(found)} ECSs are named {name}")]
        if not found or found[0].state is not EcsState.ACTIVE or found[0].id != answer.values.get("id"):
            return [Problem("lost", f"ECS {name}: the catalog has {[f'{each.id} {each.state}' for each in found]}")]
        ledger.ecs[found[0].id] = name
        guests = own_guests(world.home).count(found[0].id)
        return [] if guests == 1 else [Problem("lost" if not guests else "double", f"ECS {name} has {guests} domains")]

    arguments = ["ecs", "launch", ledger.guest, "--name", name, "--flavor", "tiny"]
    parameters = {"image": ledger.guest, "name": name, "flavor": "tiny", **_keyed(name)}
    return Operation([*arguments, "--idempotency-key", name], prove, "launch-ecs", parameters)


def _capture(ledger: Ledger, name: str) -> Operation:
    def prove(answer: Answer) -> list[Problem]:
        problems = _one_active(answer, name)
        if not problems:
            ledger.images[answer.values["id"]], ledger.names[answer.values["id"]] = None, name
        return problems

    arguments = ["ecs", "capture", ledger.steady, "--name", name, "--verify", "none"]
    parameters = {"ecs": ledger.steady, "name": name, "verify": "none", **_keyed(name)}
    return Operation([*arguments, "--idempotency-key", name], prove, "capture-ecs", parameters)


def _delete_image(ledger: Ledger, image_id: str) -> Operation:
    name = ledger.names[image_id]

    def prove(_answer: Answer) -> list[Problem]:
        ledger.images.pop(image_id, None)
        return [Problem("left", f"image {name} is there after its deletion") for _ in living_images(name)]

    return Operation(["image", "delete", image_id], prove, gone="image.not_found")


def _delete_ecs(world: World, ledger: Ledger, ecs_id: str) -> Operation:
    name = ledger.ecs[ecs_id]

    def prove(_answer: Answer) -> list[Problem]:
        ledger.ecs.pop(ecs_id, None)
        rest = [f"row {each.id}" for each in living_ecs(name)]
        rest += [f"domain {ecs_id}" for _ in range(ecs_id in own_guests(world.home))]
        rest += [f"folder {ecs_id}" for _ in range((world.home / "ecs" / ecs_id).exists())]
        return [Problem("left", f"ECS {name} is deleted and there is {each}") for each in rest]

    return Operation(["ecs", "delete", ecs_id], prove, gone="ecs.not_found")
