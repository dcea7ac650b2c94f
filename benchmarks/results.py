"""What a measurement is, how two rivals are timed fairly, and where the figures are kept.

Every benchmark module gives `Result`s; `merge` keeps those of other modules that are in results.json already.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"
RUNS = 5


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of ours and of the peer. `ratio` is peer / ours: higher is better, as every unit is one that is paid."""

    name: str
    ours: float
    peer: float
    unit: str
    runs: int

    @property
    def ratio(self) -> float:
        return self.peer / self.ours

    def as_row(self) -> dict[str, object]:
        """As it is in results.json."""
        row = asdict(self) | {"ours": round(self.ours, 3), "peer": round(self.peer, 3), "ratio": round(self.ratio, 2)}
        return {key: row[key] for key in ("name", "ours", "peer", "ratio", "unit", "runs")}


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(name: str, *, ours: Callable[[], float], peer: Callable[[], float], unit: str = "s") -> Result:
    """Both in turn, RUNS times each, giving what each call returns; a first turn counts for neither."""
    pairs = [(ours(), peer()) for _ in range(RUNS + 1)]
    return median(name, pairs[1:], unit=unit)


def median(name: str, pairs: Iterable[tuple[float, float]], *, unit: str) -> Result:
    """The medians of (ours, peer) pairs."""
    ours, peer = zip(*pairs, strict=True)
    return Result(name, statistics.median(ours), statistics.median(peer), unit, len(ours))


def merge(results: Iterable[Result], *, path: Path = RESULTS) -> list[dict[str, object]]:
    """Put new rows over old ones of the same name; gives all rows by name."""
    known = json.loads(path.read_text()) if path.exists() else []
    rows = {row["name"]: row for row in known} | {result.name: result.as_row() for result in results}
    ordered = [rows[name] for name in sorted(rows)]
    path.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in ordered) + "\n]\n")
    return ordered
