"""Lines for machines and for people: ids, secrets, threads, and a file that many processes write."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from tasks.engine import logs
from tasks.engine.logs import FILE, LIMIT, JsonLines, binding, bound, note, to_file, to_people
from tasks.engine.settings import Settings, load_settings

log = logging.getLogger("ims.test")
KEY, SECRET = "operator-key-0123456789", "s3-secret-0123456789"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a folder for logs; the process's logger is as before afterwards."""
    for name, value in {"HOME": str(tmp_path), "HOST": "here", "API_KEY": KEY, "S3_SECRET_KEY": SECRET}.items():
        monkeypatch.setenv(f"IMS_{name}", value)
    (tmp_path / "logs").mkdir()
    logger = logging.getLogger("ims")
    before, level = list(logger.handlers), logger.level
    yield tmp_path
    for handler in set(logger.handlers) - set(before):
        handler.close()
    logger.handlers[:] = before
    logger.setLevel(level)


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings()


def written(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "logs" / FILE).read_text().splitlines()]


def line(settings: Settings, text: str, *values: object, **extra: object) -> dict[str, Any]:
    """What one record becomes."""
    record = logging.getLogger("ims.x").makeRecord("ims.x", logging.INFO, "f", 1, text, values, None, extra=extra)
    told: dict[str, Any] = json.loads(JsonLines(settings).format(record))
    return told


def test_line_has_the_ids_of_its_run(home: Path) -> None:
    to_file()
    with binding(operation="op-1", account="alice", image=None):
        log.info("begun")
        note(image="image-1")
        log.warning("with %s", "an image")
    log.info("after")
    begun, with_image, after = written(home)
    assert (begun["operation"], begun["account"], "image" in begun) == ("op-1", "alice", False)
    assert (with_image["image"], with_image["message"], with_image["level"]) == ("image-1", "with an image", "warning")
    assert (after["logger"], after["host"], "operation" in after) == ("ims.test", "here", False)


def test_inner_run_adds_to_the_outer_and_takes_nothing_with_it() -> None:
    with binding(operation="outer", account="alice"):
        with binding(operation="inner"):
            note(ecs="ecs-1")
            assert bound() == {"operation": "inner", "account": "alice", "ecs": "ecs-1"}
        assert bound() == {"operation": "outer", "account": "alice"}
    note(image="nowhere")
    assert bound() == {}


def test_thread_with_a_copy_of_the_context_learns_what_is_noted_later() -> None:
    told: list[dict[str, str]] = []
    go = threading.Event()
    with binding(operation="op-1"):
        thread = threading.Thread(target=copy_context().run, args=(lambda: (go.wait(), told.append(bound())),))
        thread.start()
        note(image="image-1")
        go.set()
        thread.join()
    assert told == [{"operation": "op-1", "image": "image-1"}]


def test_line_is_one_line_with_its_events_fields(settings: Settings) -> None:
    told = line(settings, "a\nb \u2028 %s", "c", event="operation.done", seconds=1.5, code="x.y", password="no")
    assert told["message"] == "a\nb \u2028 c"
    assert (told["event"], told["seconds"], told["code"], "password" in told) == ("operation.done", 1.5, "x.y", False)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"key {KEY}", "key ***"),
        (f"{SECRET}{KEY}", "******"),
        ("postgresql://ims:hunter2@db/ims", "postgresql://***@db/ims"),
        ("http://s3/x?X-Amz-Credential=a%2Fb&X-Amz-Signature=00ff", "http://s3/x?X-Amz-Credential=***&X-Amz-Signature=***"),
        ("https://example.org/a@b:c", "https://example.org/a@b:c"),
    ],
)
def test_line_has_no_secrets(settings: Settings, said: str, told: str) -> None:
    assert line(settings, "%s", said)["message"] == told


def test_traceback_is_in_it_without_secrets(home: Path) -> None:
    to_file()
    try:
        raise ValueError(KEY)
    except ValueError:
        log.exception("broken")
    assert "ValueError: ***" in written(home)[0]["traceback"]


def test_file_is_private_and_written_once(home: Path) -> None:
    to_file()
    to_file()
    log.info("once")
    assert len(written(home)) == 1
    assert (home / "logs" / FILE).stat().st_mode & 0o777 == 0o600


def test_home_without_logs_changes_nothing(home: Path) -> None:
    (home / "logs").rmdir()
    to_file()
    log.info("nowhere")
    assert not (home / "logs").exists()


def test_file_that_grew_is_put_aside(home: Path) -> None:
    path = home / "logs" / FILE
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    to_file()
    log.info("new")
    assert (path.with_suffix(".jsonl.1").stat().st_size, len(written(home))) == (LIMIT + 1, 1)


WRITER = """
import logging, sys
from tasks.engine.logs import to_file
to_file()
for number in range(300):
    logging.getLogger("ims.many").info("%s %s", number, "x" * 3000)
"""


def test_processes_write_whole_lines_into_one_file(home: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WRITER]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    lines = written(home)
    assert len(lines) == 1200
    assert {len(told["message"].split()[1]) for told in lines} == {3000}


@pytest.mark.parametrize("format", ["text", "json"])
def test_people_read_what_is_said_and_machines_the_events_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    monkeypatch.setenv("IMS_LOG_FORMAT", format)
    handler = to_people(load_settings())
    logger = logging.getLogger("ims")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    log.info("Transfer: 1 MB")
    log.info("import done", extra={"event": "operation.done"})
    told = capsys.readouterr().err.splitlines()
    if format == "text":
        assert told == ["Transfer: 1 MB"]
    else:
        assert [json.loads(each)["message"] for each in told] == ["Transfer: 1 MB", "import done"]


def test_full_disk_fails_no_run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    to_file()

    def full(_file: int, _line: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs.os, "write", full)
    log.info("lost")
    assert "No space left" in capsys.readouterr().err
