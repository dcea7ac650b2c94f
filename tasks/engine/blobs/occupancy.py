"""How many chunks a bucket holds and what they occupy, from a listing of bounded length.

Names are hashes, so a listing that ends early has seen a known share of all: how far it came in the space of digests. 100,000
chunks give their number within 1 % (three standard deviations), their bytes nearly as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from tasks.engine.blobs.chunks import CHUNK_PREFIX
from tasks.engine.blobs.objects import PAGE_SIZE, ObjectStore

MOST = 100_000
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Chunks and their stored bytes; `exact` where all of them were listed."""

    chunks: int
    bytes: int
    exact: bool


def occupancy(
    objects: ObjectStore, *, most: int = MOST, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Occupancy:
    """List up to `most` chunks, and no new page after `seconds`. Raises what listing raises."""
    listed, deadline = objects.list(CHUNK_PREFIX), clock() + seconds
    count = held = 0
    last = ""
    while page := tuple(islice(listed, PAGE_SIZE)):
        count += len(page)
        held += sum(info.size for info in page)
        last = page[-1].key
        if len(page) < PAGE_SIZE:
            break
        if count >= most or clock() >= deadline:
            return _extrapolated(count, held, last)
    return Occupancy(count, held, exact=True)


def _extrapolated(count: int, held: int, last: str) -> Occupancy:
    reach = int(last.rpartition("/")[2][:16], 16) + 1
    return Occupancy(count * (1 << 64) // reach, held * (1 << 64) // reach, exact=False)
