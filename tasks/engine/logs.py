"""What a run says, as lines: for people as text, and for machines as JSON with the ids of what the run is about.

The ids are bound where a run begins (`tasks.sagas`) and are then in every line that its code writes, threads that were started
with a copy of the context among them. Prefect's own handlers on the same logger keep the plain message for the run's log.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from tasks.engine.settings import Settings, load_settings

ROOT = "ims"
FILE = "ims.jsonl"
LIMIT = 20 << 20
"""Bytes after which the file is put aside when a process begins to write; one older file is kept."""
EVENT_FIELDS = ("event", "seconds", "code", "attempt")
"""What a line may carry of itself through `extra`."""
SHORTEST_SECRET = 8
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+:[^/\s@]+(?=@)|(?<=X-Amz-Signature=)[^&\s]+|(?<=X-Amz-Credential=)[^&\s]+")
_bound: ContextVar[dict[str, str] | None] = ContextVar("ims_log_ids", default=None)


@contextlib.contextmanager
def binding(**ids: str | None) -> Iterator[None]:
    """Put these ids, where there are any, into every line written inside; an inner block adds to an outer one's."""
    outer = _bound.get()
    _bound.set({**(outer or {}), **_present(ids)})
    try:
        yield
    finally:
        _bound.set(outer)


def note(**ids: str | None) -> None:
    """Add ids to the present block, for its threads as well; outside of any nothing happens."""
    if (present := _bound.get()) is not None:
        present.update(_present(ids))


def bound() -> dict[str, str]:
    """The ids that a line written now would carry."""
    return dict(_bound.get() or {})


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the bound ids, the event's fields, process and host; no secrets."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._host = settings.host
        self._secrets = _secrets(settings)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **bound(),
            **{name: getattr(record, name) for name in EVENT_FIELDS if hasattr(record, name)},
            "host": self._host,
            "pid": record.process,
            "thread": record.threadName,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: self._clean(value) for name, value in line.items()}, ensure_ascii=False, default=str)

    def _clean(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        for secret in self._secrets:
            value = value.replace(secret, "***")
        return _CREDENTIALS.sub("***", value)


class _ForPeople(logging.Filter):
    """Leaves out what a command's own answer says: that a run began, and how it ended."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not hasattr(record, "event")


class _Appending(logging.Handler):
    """Whole lines appended to one file by any number of processes."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._file, (self.format(record) + "\n").encode(errors="replace"))
        except OSError:  # a full disk is no reason for a run to fail
            self.handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)
        super().close()


def to_people(settings: Settings, *, text: str = "%(message)s") -> logging.Handler:
    """A handler for a terminal or a service's log on stderr: `text`, or JSON lines where the setting says so."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonLines(settings))
    else:
        handler.setFormatter(logging.Formatter(text))
        handler.addFilter(_ForPeople())
    return handler


def to_file(settings: Settings | None = None) -> None:
    """Write what this process says from INFO on to IMS_HOME/logs/ims.jsonl as well; nothing where that is not possible."""
    settings = settings or load_settings()
    path = settings.home / "logs" / FILE
    logger = logging.getLogger(ROOT)
    present = [handler for handler in logger.handlers if isinstance(handler, _Appending)]
    if any(handler.path == path for handler in present):
        return
    for other in present:  # of another home: a test's
        logger.removeHandler(other)
        other.close()
    with contextlib.suppress(OSError):
        _put_aside(path)
        handler = _Appending(path)
        handler.setFormatter(JsonLines(settings))
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)


def _put_aside(path: Path) -> None:
    """Rename a file that has grown too large; of processes that see it at once, one does."""
    with (path.parent / f".{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_size > LIMIT:
            path.replace(path.with_suffix(".jsonl.1"))


def _present(ids: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in ids.items() if value}


def _secrets(settings: Settings) -> list[str]:
    """What this process knows and must never say, the longest first."""
    known = [secret.get_secret_value() for secret in (settings.api_key, settings.s3_secret_key) if secret]
    return sorted((each for each in known if len(each) >= SHORTEST_SECRET), key=len, reverse=True)
