"""`python -m benchmarks.faults`: bring the service up, play rounds until enough faults have struck, check, print the table.

Exit code 1 where anything was lost, double, left, stuck or unclean, and where the check overlooks what is planted after it.
It ends what it started, whatever ends it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path

from benchmarks.deployment import end_on_sigterm
from benchmarks.faults import table
from benchmarks.faults.checking import compare, repair
from benchmarks.faults.drawing import GROUPS, WEIGHTS, Draw, Kind, draws
from benchmarks.faults.operations import Ledger, Problem, make_operation
from benchmarks.faults.planting import prove
from benchmarks.faults.rounds import Round, Usual, measure, play
from benchmarks.faults.world import World, faulty_world
from deployments.sample_guest import build, fetch
from deployments.sample_guest.packages import default_folder
from tasks.engine.errors import ImsError

GUESTS = {"import guest", "launch", "capture", "delete ECS"}
BROKEN = (RuntimeError, ImsError, subprocess.TimeoutExpired)
"""What ends a round, or the check, and not the run: the table comes, with this in it."""
MOST_ECS = 2
"""ECSs beside the one that is captured: more are deleted before the next launch."""


def main() -> int:
    """Run it."""
    given = _parse()
    end_on_sigterm()
    packages = default_folder()
    if GUESTS & set(given.operations):
        fetch(packages)
    with faulty_world() as world:
        ledger = Ledger()
        rounds, problems = run(world, ledger, given, packages)
        wrong = check(world, ledger)
        problems += wrong
        proofs = [] if wrong else prove_check(world, ledger)
    counted = [each for each in rounds if each.struck]
    if len(counted) < given.faults:
        print(f"only {len(counted)} of {given.faults} faults struck within {given.minutes} minutes")
    text = table.table(counted, problems, proofs)
    print(text)
    if given.write:
        table.write(text, command="python -m benchmarks.faults " + " ".join(sys.argv[1:]))
    return 1 if problems or len(counted) < given.faults or not all(named for _, named in proofs) else 0


def run(world: World, ledger: Ledger, given: argparse.Namespace, packages: Path) -> tuple[list[Round], list[Problem]]:
    """All rounds."""
    deadline = time.monotonic() + 60 * given.minutes
    rounds = list[Round]()
    usual, problems = prepare(world, ledger, given.operations, packages)
    kinds = [kind for group in given.only for kind in GROUPS[group]]
    for draw in draws(given.seed, kinds=kinds, operations=given.operations):
        if sum(each.struck for each in rounds) >= given.faults or time.monotonic() > deadline:
            break
        try:
            _make_room(world, ledger)
            done = play(world, ledger, draw, usual[draw.operation])
        except BROKEN as error:
            problems.append(Problem("stuck", f"round {draw.number}, {draw.operation}: {error}"))
            print(f"{draw.number:4} {draw.operation}: {error}", flush=True)
            world.heal()
            continue
        rounds.append(done)
        problems += [Problem(each.kind, f"round {draw.number}, {done.operation}: {each.text}") for each in done.problems]
        print(done.line(), flush=True)
    return rounds, problems


def check(world: World, ledger: Ledger) -> list[Problem]:
    """What is not as it must be at the end."""
    try:
        return [*repair(world), *compare(world, ledger)]
    except BROKEN as error:
        return [Problem("stuck", f"the check at the end was broken off: {error}")]


def prove_check(world: World, ledger: Ledger) -> list[tuple[str, bool]]:
    """What was made wrong on purpose after the clean check, and whether it was named."""
    proofs = []
    for plant, named in prove(world, ledger):
        print(f"     planted: {plant.what}: {'named' if named else 'NOT NAMED'}", flush=True)
        proofs.append((plant.what, named))
    return proofs


def prepare(world: World, ledger: Ledger, operations: list[str], packages: Path) -> tuple[dict[str, Usual], list[Problem]]:
    """Do everything once without a fault: what it takes then, an image to launch and an ECS to capture."""
    usual: dict[str, Usual] = {}
    problems: list[Problem] = []
    if GUESTS & set(operations):
        build(world.files / "guest.raw", packages=packages).chmod(0o644)
        operations = ["import guest", "launch", *operations]
    for number, name in enumerate(dict.fromkeys(["import", *operations])):
        draw = Draw(-1 - number, name, Kind.SLOW, False, False, 0, 0, False, False, -1 - number)
        usual[name], wrong = measure(world, make_operation(world, ledger, draw))
        problems += wrong
        print(f"     {name} without a fault: {usual[name].seconds:.1f} s, {usual[name].requests} requests", flush=True)
        if name == "import guest":
            ledger.guest = next(reversed(ledger.images), "")
        if name == "launch":
            ledger.steady = next(reversed(ledger.ecs), "")
    return usual, problems


def _make_room(world: World, ledger: Ledger) -> None:
    """Delete the ECSs that nobody needs any more."""
    for ecs_id in ledger.spare_ecs()[MOST_ECS:]:
        world.must("ecs", "delete", ecs_id)
        del ledger.ecs[ecs_id]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=100, help="how many must strike (default: 100)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=40, help="no new round after so many (default: 40)")
    parser.add_argument("--only", type=_words(GROUPS), default=list(GROUPS), help=f"of {','.join(GROUPS)}")
    parser.add_argument("--operations", type=_words(WEIGHTS), default=list(WEIGHTS), help=f"of {','.join(WEIGHTS)}")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    return parser.parse_args()


def _words(known: Container[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        words = [word.strip() for word in text.split(",")]
        if unknown := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return words

    return parse


if __name__ == "__main__":
    sys.exit(main())
