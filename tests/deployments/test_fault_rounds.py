"""What the fault run draws and says; that it plays is proved by playing it (`python -m benchmarks.faults`)."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from benchmarks.faults.attempts import Ended
from benchmarks.faults.drawing import GROUPS, WEIGHTS, Draw, Kind, draws
from benchmarks.faults.operations import Problem
from benchmarks.faults.rounds import Round
from benchmarks.faults.table import table


def drawn(count: int, seed: int = 7) -> list[Draw]:
    return list(islice(draws(seed, kinds=list(Kind), operations=list(WEIGHTS)), count))


def test_rounds_of_a_seed_are_the_same_and_others_of_another() -> None:
    assert drawn(50) == drawn(50)
    assert drawn(50) != drawn(50, seed=8)


def test_all_faults_come_in_turn_and_all_operations_in_a_hundred() -> None:
    rounds = drawn(140)
    assert set(Counter(each.kind for each in rounds).values()) == {20}
    assert {each.operation for each in rounds} == set(WEIGHTS)
    assert {kind for kinds in GROUPS.values() for kind in kinds} == set(Kind)


@pytest.mark.parametrize(
    ("ended", "clean"),
    [
        (Ended(done=True), True),
        (Ended(crashed=True), True),
        (Ended(code="store.unavailable"), True),
        (Ended(code="defect"), False),
        (Ended(words="Traceback"), False),
    ],
)
def test_error_without_a_name_of_the_services_own_is_not_clean(ended: Ended, clean: bool) -> None:
    assert ended.clean is clean


def test_table_sums_up_and_names_every_problem() -> None:
    rounds = [
        Round(each, "import", struck=True, ending=ending, seconds=number)
        for number, (each, ending) in enumerate(zip(drawn(4), ("itself", "repeated", "reconciled", "taken over"), strict=True))
    ]
    text = table(rounds, [Problem("lost", "image disk-3"), Problem("left", "scratch/x")])
    assert "| **all** |  | 4 | 1 | 1 | 1 | 1 | 1.5 | 3.0 |" in text
    assert "4 faults; lost 1, double 0, left 1, stuck 0, unclean 0." in text
    assert text.endswith("- lost: image disk-3\n- left: scratch/x")
    told = table(rounds, [], [("a chunk is deleted", True), ("an image is deleted", False)])
    assert told.endswith("- a chunk is deleted: named\n- an image is deleted: OVERLOOKED")
