"""What each round does, drawn by a seeded generator: round n of a seed is the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.faults.proxy import Mode


class Kind(StrEnum):
    """What fails."""

    BUSY = "store answers 503"
    DROPPED = "store drops connections"
    SLOW = "store is slow"
    STOPPED = "store is stopped"
    DATABASE = "database restarts"
    PREFECT = "Prefect server restarts"
    KILLED = "worker or command is killed"


MODES = {Kind.BUSY: Mode.ANSWER_503, Kind.DROPPED: Mode.DROP, Kind.SLOW: Mode.SLOW, Kind.STOPPED: Mode.STOP}
GROUPS = {
    "store": tuple(MODES),
    "database": (Kind.DATABASE,),
    "prefect": (Kind.PREFECT,),
    "worker": (Kind.KILLED,),
}
"""As `--only` names them."""
LASTS = {
    Kind.BUSY: (1.0, 12.0),
    Kind.DROPPED: (1.0, 12.0),
    Kind.SLOW: (4.0, 15.0),
    Kind.STOPPED: (1.0, 12.0),
    Kind.DATABASE: (0.0, 5.0),
    Kind.PREFECT: (0.0, 4.0),
    Kind.KILLED: (0.0, 0.0),
}
"""Seconds; below and above the eight for which the store's client has patience."""
WEIGHTS = {"import": 58, "import guest": 3, "launch": 8, "capture": 11, "delete image": 8, "delete ECS": 4, "collect": 8}


@dataclass(frozen=True, slots=True)
class Draw:
    """One round. `moment` is a share of the operation's usual store requests, or else of its usual seconds.

    `hard`: the server is killed instead of stopped. `patient`: after a kill the reconciliation is waited for; otherwise the
    same command takes over at once.
    """

    number: int
    operation: str
    kind: Kind
    detached: bool
    by_request: bool
    moment: float
    seconds: float
    hard: bool
    patient: bool
    seed: int


def draws(seed: int, *, kinds: Sequence[Kind], operations: Sequence[str]) -> Iterator[Draw]:
    """Rounds for ever: all kinds of fault in turn, in an order that is drawn anew for each turn."""
    number = 0
    while True:
        turn = list(kinds)
        random.Random(f"{seed}:turn:{number}").shuffle(turn)
        for kind in turn:
            yield _draw(seed, number, kind, operations)
            number += 1


def _draw(seed: int, number: int, kind: Kind, operations: Sequence[str]) -> Draw:
    drawn = random.Random(f"{seed}:{number}")
    return Draw(
        number=number,
        operation=drawn.choices(operations, [WEIGHTS[name] for name in operations])[0],
        kind=kind,
        detached=drawn.random() < 0.5,
        by_request=drawn.random() < 0.6,
        moment=drawn.random(),
        seconds=drawn.uniform(*LASTS[kind]),
        hard=drawn.random() < 0.5,
        patient=drawn.random() < 0.6,
        seed=drawn.randrange(1 << 30),
    )
