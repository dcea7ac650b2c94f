"""Runs that have stopped: they gave signs of life and give none any more, so they are marked as crashed.

A killed process tells nobody. What it was doing is closed by the reconciliation that its host's watcher starts
(`deployments.watching`); this is for what has no operation, such as a run that waits for another host.

Prefect's own way would be an automation on heartbeats. It writes a row for every heartbeat; a server on SQLite stood still
for a minute at a time while a hundred runs were queued (docs/adr/0012-hosts.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

HEARTBEAT = "prefect.flow-run.heartbeat"
RECENT_SECONDS = 35.0
"""A live run's last heartbeat is not older; they come every 30 s."""
SILENT_SECONDS = 60.0
"""For so long none was recent, in looks that had an answer: two more that were missed."""
GAP_SECONDS = 30.0
"""After a longer time without an answer every run gets the whole time anew: its heartbeats had nowhere to go."""
AT_ONCE = 25
"""Runs in one question; the answer has up to 50 events."""

Ask = Callable[[str, Mapping[str, object] | None], Any | None]


class StoppedRuns:
    """What was seen of the runs of these flows; `ask` is a question to the Prefect API, with None for no answer."""

    def __init__(self, ask: Ask, *, flows: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._flows, self._clock = ask, sorted(flows), clock
        self._signs: dict[str, float] = {}
        self._answered = float("-inf")

    def look(self) -> list[str]:
        """Mark as crashed what has been silent for too long; the ids. Nothing where the server gives no answer."""
        running = self._running()
        beating = None if running is None else self._beating(running)
        if running is None or beating is None:
            return []
        now = self._clock()
        if now - self._answered > GAP_SECONDS:
            self._signs.clear()
        self._answered = now
        known = {run: now if run in beating else seen for run, seen in self._signs.items() if run in running}
        self._signs = known | {run: now for run in running - known.keys() if run in beating or self._has_beaten(run)}
        return [run for run, seen in self._signs.items() if now - seen >= SILENT_SECONDS and self._crash(run)]

    def _running(self) -> set[str] | None:
        runs = {"state": {"type": {"any_": ["RUNNING"]}}}
        body = {"flow_runs": runs, "flows": {"name": {"any_": self._flows}}, "limit": 200}
        found = self._ask("/flow_runs/filter", body)
        return None if found is None else {each["id"] for each in found}

    def _beating(self, runs: Iterable[str]) -> set[str] | None:
        beating: set[str] = set()
        for group in _groups(sorted(runs)):
            found = self._ask("/events/filter", _beats(group, within=RECENT_SECONDS))
            if found is None:
                return None
            beating |= {each["resource"]["prefect.resource.id"].removeprefix("prefect.flow-run.") for each in found["events"]}
        return beating

    def _has_beaten(self, run: str) -> bool:
        """Whether it ever did; one whose process was told to send none is left alone."""
        found = self._ask("/events/filter", {**_beats([run], within=7 * 86400.0), "limit": 1})
        return bool(found and found["events"])

    def _crash(self, run: str) -> bool:
        """Unless it ended meanwhile, which the server sees to."""
        state = {"type": "CRASHED", "name": "Crashed", "message": "Its process gave no sign of life any more."}
        return self._ask(f"/flow_runs/{run}/set_state", {"state": state}) is not None


def _beats(runs: Iterable[str], *, within: float) -> dict[str, object]:
    since = datetime.now(UTC) - timedelta(seconds=within)
    resources = [f"prefect.flow-run.{run}" for run in runs]
    chosen = {"event": {"name": [HEARTBEAT]}, "resource": {"id": resources}, "occurred": {"since": since.isoformat()}}
    return {"filter": chosen, "limit": 2 * AT_ONCE}


def _groups(runs: list[str]) -> Iterator[list[str]]:
    return (runs[place : place + AT_ONCE] for place in range(0, len(runs), AT_ONCE))
