"""Progress of long steps: a progress artifact in the Prefect UI and a log line, with rate and time left, at most one a second.

Outside a Prefect run (a benchmark, a script) only the log line remains.
"""

from __future__ import annotations

import logging
import threading
import time
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

log = logging.getLogger("ims.progress")
log.setLevel(logging.INFO)  # Prefect adds its handlers to `ims` and leaves the level at the root's
ARTIFACT_SECONDS = 1.0
LOG_SECONDS = 5.0


class Progress:
    """Bytes done of a known or unknown total. Thread-safe; calls from hot loops cost a clock reading.

    The artifact is made when there is something to show, so a step that had nothing to do leaves none.
    """

    def __init__(self, title: str, *, total: int | None = None) -> None:
        self._title = title
        self._total = total
        self._begun = self._shown = self._logged = time.monotonic()
        self._lock = threading.Lock()
        self._artifact: UUID | None = None

    def __call__(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if now - self._shown < ARTIFACT_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            self._shown = now
            self._total = total or self._total
            text = self.describe(done, seconds=now - self._begun)
            self._publish(done, text)
            if now - self._logged >= LOG_SECONDS:
                self._logged = now
                log.info(text)
        finally:
            self._lock.release()

    def finish(self, done: int) -> None:
        """Say the last word whatever the throttle thinks."""
        self._total = done
        text = self.describe(done, seconds=time.monotonic() - self._begun)
        self._publish(done, text)
        log.info(text)

    def describe(self, done: int, *, seconds: float) -> str:
        """`Transfer web: 120 of 534 MB, 96 MB/s, 4 s left`; decimal megabytes."""
        rate = done / seconds if seconds > 0 else 0.0
        amount = f"{done / 1e6:.0f} of {self._total / 1e6:.0f} MB" if self._total else f"{done / 1e6:.0f} MB"
        left = f", {(self._total - done) / rate:.0f} s left" if self._total and rate and self._total > done else ""
        return f"{self._title}: {amount}, {rate / 1e6:.0f} MB/s{left}"

    def _publish(self, done: int, text: str) -> None:
        self._artifact = self._artifact or _create_artifact(self._title)
        if self._artifact is None:
            return
        share = 100.0 * done / self._total if self._total else 0.0
        update_progress_artifact(self._artifact, progress=min(100.0, share), description=text)


def _create_artifact(title: str) -> UUID | None:
    if TaskRunContext.get() is None:
        return None
    created = create_progress_artifact(progress=0.0, description=title)
    return created if isinstance(created, UUID) else None
