"""One attempt at an operation: by a command of its own, or handed to the worker; and how it ended."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from benchmarks.deployment import hand_over
from benchmarks.faults.operations import Operation
from benchmarks.faults.world import Answer, World
from models.operation_finding import operation_of_run, running_operations
from models.operations import is_held
from tasks.engine.errors import ImsError
from tasks.holders import is_alive
from tasks.resources import catalog

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
CODE = re.compile(r"[A-Z][A-Za-z]+: (?P<code>[a-z][a-z0-9_]*(?:\.[a-z0-9_.]+)?): ")


@dataclass(frozen=True, slots=True)
class Ended:
    """`done`: it succeeded; `crashed`: its process was killed, or nobody ran it; `code`: of the error that it named."""

    done: bool = False
    crashed: bool = False
    code: str = ""
    words: str = ""

    @property
    def clean(self) -> bool:
        """Whether it succeeded, was killed, or said what was wrong by a name of the service's own."""
        return self.done or self.crashed or self.code not in ("", "defect")


class Attempt(Protocol):
    """Something that is under way."""

    def history(self) -> list[str]:
        """What Prefect saw of it, a line each; empty where it is a command's."""

    def ended(self) -> Ended | None:
        """How it ended, None while it goes on or nobody can tell."""

    def give_up(self) -> None:
        """End it, as it does not by itself."""

    @property
    def kill(self) -> Callable[[], None] | None:
        """Kills the command; None where the worker runs it."""


class CommandAttempt:
    """A command; its answer counts."""

    def __init__(self, world: World, operation: Operation) -> None:
        self._world, self._operation = world, operation
        self._begun: subprocess.Popen[bytes] = world.begin(*operation.arguments)

    def ended(self) -> Ended | None:
        if self._begun.poll() is None:
            return None
        answer = self._world.end(self._begun)
        return _told(self._operation, answer)

    def give_up(self) -> None:
        self.kill()
        self._world.end(self._begun)

    def kill(self) -> None:
        self._world.kill(self._begun)

    def history(self) -> list[str]:
        return []


class WorkerAttempt:
    """A run that was handed over, as --detach does; the Prefect server tells how it ended."""

    kill = None

    def __init__(self, world: World, operation: Operation) -> None:
        self._world = world
        self.run = hand_over(operation.deployment, operation.parameters)

    def ended(self) -> Ended | None:
        state = (self._world.prefect(f"/flow_runs/{self.run}") or {}).get("state") or {}
        if state.get("type") not in ENDED:
            return None
        words = str(state.get("message") or "")
        if state["type"] == "COMPLETED":
            return Ended(done=True)
        if state["type"] == "CRASHED":
            return Ended(crashed=True, words=words)
        found = CODE.search(words)
        return Ended(code=self._operation_code() or (found["code"] if found else ""), words=words)

    def history(self) -> list[str]:
        states = self._world.prefect(f"/flow_run_states/?flow_run_id={self.run}") or []
        return [f"{each['timestamp'][11:19]} {each['name']}: {each.get('message') or ''}"[:160] for each in states]

    def give_up(self) -> None:
        state = {"type": "CANCELLED", "name": "Cancelled", "message": "The fault run gave it up."}
        self._world.prefect(f"/flow_runs/{self.run}/set_state", {"state": state, "force": True})

    def _operation_code(self) -> str:
        try:
            with catalog() as session:
                found = operation_of_run(session, account="admin", flow_run_id=self.run)
                return (found.error_code or "") if found else ""
        except ImsError:
            return ""


def _told(operation: Operation, answer: Answer) -> Ended:
    if operation.did(answer):
        return Ended(done=True)
    if answer.status < 0:
        return Ended(crashed=True)
    return Ended(code=answer.code, words=answer.short)


def abandoned() -> list[str]:
    """Operations that nobody runs and nobody has closed."""
    with catalog() as session:
        return [f"{each.kind} {each.id}" for each in running_operations(session) if not is_held(each, is_alive=is_alive)]
