"""One round: an operation, a fault in its middle, its end, the same command again until it is done, and proof."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.deployment import until
from benchmarks.faults.attempts import Attempt, CommandAttempt, Ended, WorkerAttempt, abandoned
from benchmarks.faults.drawing import MODES, Draw
from benchmarks.faults.failing import Fault, make_fault
from benchmarks.faults.operations import Ledger, Operation, Problem, make_operation
from benchmarks.faults.world import World
from tasks.engine.errors import ImsError

CLEAN_SECONDS = 120.0
"""Within so many seconds of the fault's end a run has ended, or a reconciliation has closed what it left."""
REPEATS = 12
REPEAT_SECONDS = 3.0
FEW_REQUESTS = 5
"""With fewer, those of the first time may never come again: a launch reads what the host has at hand."""
SLOW_SECONDS = 60.0
"""A round that takes longer shows what Prefect saw of its run."""
WORKER_SECONDS = 6.0
"""What the worker needs to take a run up, beside what the operation itself does."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What an operation takes when nothing fails."""

    seconds: float
    requests: int


@dataclass
class Round:
    """What became of it. `ending` is itself, reconciled, repeated or taken over; `seconds` from the fault's beginning on."""

    draw: Draw
    operation: str
    detached: bool = False
    struck: bool = False
    ending: str = ""
    code: str = ""
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    history: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For whoever watches."""
        how = "by the worker" if self.detached else "by a command"
        told = [*(f"{each.kind}: {each.text}" for each in self.problems), *self.history]
        wrong = "".join(f"\n      {each}" for each in told)
        fault = self.draw.kind if self.struck else f"{self.draw.kind}: not struck"
        return f"{self.draw.number:4} {self.operation} {how}, {fault}: {self.ending} {self.code} {self.seconds:.1f} s{wrong}"


def measure(world: World, operation: Operation) -> tuple[Usual, list[Problem]]:
    """Do it without any fault."""
    began, before = time.monotonic(), world.proxy.requests
    answer = world.ims(*operation.arguments)
    usual = Usual(time.monotonic() - began, world.proxy.requests - before)
    if answer.status != 0:
        return usual, [Problem("lost", f"without a fault, {' '.join(operation.arguments)}: {answer.short}")]
    return usual, operation.prove(answer)


def play(world: World, ledger: Ledger, draw: Draw, usual: Usual) -> Round:
    """Play one round to its end; nothing of it is left running."""
    operation = make_operation(world, ledger, draw)
    detached = draw.detached and bool(operation.deployment)
    fallen_back = operation.arguments[1] == "import" and draw.operation != "import guest"
    done = Round(draw, "import" if fallen_back else draw.operation, detached)
    attempt: Attempt = WorkerAttempt(world, operation) if detached else CommandAttempt(world, operation)
    fault = make_fault(world, draw, kill_command=attempt.kill)
    began = time.monotonic()
    ended = _strike(world, draw, usual, attempt, fault, done)
    if done.struck:
        began = time.monotonic()
        ended = _endure(draw, attempt, fault, done) if ended is None else _over(fault, done, ended)
    ended = ended or _await_end(attempt, usual, done)
    done.seconds = time.monotonic() - began
    _finish(world, operation, ended, done)
    if not (ended.done and done.struck):
        done.seconds = time.monotonic() - began
    if done.seconds > SLOW_SECONDS:
        done.history = attempt.history()
    return done


def _strike(world: World, draw: Draw, usual: Usual, attempt: Attempt, fault: Fault, done: Round) -> Ended | None:
    """Wait for the moment and begin the fault; an attempt that ends before is over without one."""
    due, reached = threading.Event(), _once(fault.begin)
    by_request = draw.by_request and usual.requests >= FEW_REQUESTS
    if by_request:
        calls = [reached, due.set] if draw.kind in MODES else [due.set]
        world.proxy.at(1 + int(draw.moment * usual.requests), lambda: [call() for call in calls])
    delay = draw.moment * (usual.seconds + (WORKER_SECONDS if attempt.kill is None else 0))
    latest = time.monotonic() + (3 * usual.seconds + 60 if by_request else delay)
    while not due.is_set() and time.monotonic() < latest:
        if (ended := attempt.ended()) is not None and not due.is_set():
            world.proxy.forget()
            if not due.is_set():
                return ended
        due.wait(0.01 if attempt.kill else 0.05)
    world.proxy.forget()
    reached()
    done.struck = True
    return None


def _endure(draw: Draw, attempt: Attempt, fault: Fault, done: Round) -> Ended | None:
    """Let the fault last, and end it."""
    last, ended = time.monotonic() + draw.seconds, None
    while time.monotonic() < last:
        ended = ended or attempt.ended()
        time.sleep(0.1)
    return _over(fault, done, ended)


def _over(fault: Fault, done: Round, ended: Ended | None) -> Ended | None:
    try:
        fault.end()
    except (RuntimeError, ImsError) as error:
        done.problems.append(Problem("stuck", str(error)))
    return ended


def _await_end(attempt: Attempt, usual: Usual, done: Round) -> Ended:
    seen: list[Ended] = []

    def is_over() -> bool:
        if (ended := attempt.ended()) is not None:
            seen.append(ended)
        return bool(seen)

    allowed = CLEAN_SECONDS + 3 * usual.seconds
    if until(is_over, seconds=allowed):
        return seen[0]
    done.problems.append(Problem("stuck", f"did not end within {allowed:.0f} s of the fault's end"))
    attempt.give_up()
    return Ended(crashed=True)


def _finish(world: World, operation: Operation, ended: Ended, done: Round) -> None:
    """Until it is done, closed and proved."""
    done.code = ended.code
    if not ended.clean:
        done.problems.append(Problem("unclean", f"ended without a name for its error: {ended.words}"))
    done.ending = "itself" if ended.done else "repeated"
    if ended.crashed:
        done.ending = "reconciled" if done.draw.patient or done.detached else "taken over"
    if done.ending == "reconciled":
        _await_closed(done)
    _repeat(world, operation, done)
    _await_closed(done)


def _await_closed(done: Round) -> None:
    """Nothing stays that nobody runs."""
    left: list[str] = []

    def is_closed() -> bool:
        with suppress(ImsError):
            left[:] = abandoned()
            return not left
        return False

    if not until(is_closed, seconds=CLEAN_SECONDS, pause=0.5):
        done.problems.append(Problem("left", f"after {CLEAN_SECONDS:.0f} s nobody had closed {', '.join(left)}"))


def _repeat(world: World, operation: Operation, done: Round) -> None:
    """The same command with the same key; it gives the same thing however often it is asked."""
    for _ in range(REPEATS):
        answer = world.ims(*operation.arguments)
        if operation.did(answer):
            done.problems += operation.prove(answer)
            return
        if answer.status != 3:
            done.problems.append(Problem("unclean" if answer.status == 1 else "lost", f"repeated: {answer.short}"))
            if answer.status == 2:
                return
        time.sleep(REPEAT_SECONDS)
    done.problems.append(Problem("stuck", f"repeated {REPEATS} times: {answer.short}"))


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """It is called by whoever is first."""
    lock, called = threading.Lock(), list[bool]()

    def guarded() -> None:
        with lock:
            if not called:
                called.append(True)
                call()

    return guarded
