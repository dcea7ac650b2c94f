"""The files below a folder of a mounted guest as one stream: libguestfs's tar_out into a pipe, read while it is written.

One call moves a whole tree; asking for each file would take hours under TCG. tar cannot be told to leave out what is big, so a
stream that meets a big file is ended and resumed behind it. `tar_members` reads the archive, `scan_child` judges the files.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import IO, Any

from tasks.engine.inspection.c_generalize import IO_ERROR
from tasks.engine.inspection.c_scan import EXCLUDE_BYTES, RESUME_BYTES
from tasks.engine.inspection.guest_files import Budget
from tasks.engine.inspection.guestfs_child import FAILURES
from tasks.engine.inspection.tar_members import Member, members

_SPECIAL = re.compile(r"([*?\[\]\\])")
_PIPE_BYTES = 1 << 20
_PATTERN_BYTES = 16


class Incomplete(RuntimeError):
    """Not all files of a folder went by; why is its text."""


def stream(
    handle: Any, folder: str, *, excludes: Sequence[str], limit_of: Callable[[str], int], budget: Budget
) -> Iterator[Member]:
    """All below the real folder but what tar's patterns `excludes` (such as `./cache`) match, each path once.

    Raises Incomplete at its end where something is missing, RuntimeError where the disk does not answer.
    """
    seen, big, resumed = set[str](), list[str](), list[str]()
    while True:
        size = len(big)
        with closing(_pass(handle, folder, [*excludes, *resumed], limit_of)) as found:
            for member in found:
                _pay(member, budget)
                if member.path not in seen and not stat.S_ISDIR(member.mode):
                    seen.add(member.path)
                    yield member
                    if _is_left_behind(member):
                        big.append(member.path)
                        break
        if size == len(big):
            return
        resumed = excluding(seen, big)


def excluding(seen: Iterable[str], big: Sequence[str]) -> list[str]:
    """Patterns of what need not be read again after the last of the big files: folders as a whole where they are finished."""
    patterns, room = [], EXCLUDE_BYTES
    for path in dict.fromkeys((*big, *(_finished(each, big[-1]) for each in seen))):
        room -= len(path.encode(errors="replace")) + _PATTERN_BYTES
        if room > 0 and path.isprintable():
            patterns.append(literally(path))
    if len(patterns) < len(big):
        raise Incomplete("the rest was not looked at, there are too many big files")
    return patterns


def literally(path: str) -> str:
    """tar's pattern of exactly this path; the dot at its beginning keeps it from matching further down."""
    return "./" + _SPECIAL.sub(r"\\\1", path)


def _finished(path: str, last: str) -> str:
    """The path, or the outermost folder on the way to it that `last` is not in: tar goes through one folder after another."""
    parts, others = path.split("/"), last.split("/")
    pairs = zip(parts[:-1], others[:-1], strict=False)
    shared = next((at for at, (one, other) in enumerate(pairs) if one != other), len(others) - 1)
    return "/".join(parts[: shared + 1])


def _is_left_behind(member: Member) -> bool:
    """Whether the stream is ended here. A name must be one that can be told to tar: it reads its patterns by line, and the
    binding speaks UTF-8."""
    return member.rest > RESUME_BYTES and member.path.isprintable()


def _pay(member: Member, budget: Budget) -> None:
    """By sizes alone, so that a disk is read as far on one host as on another."""
    rest = RESUME_BYTES if _is_left_behind(member) else member.rest
    if not budget.take_entries(1) or not budget.take_bytes(len(member.data) + rest):
        raise Incomplete("the rest was not looked at, there is too much")


def _pass(handle: Any, folder: str, excludes: list[str], limit_of: Callable[[str], int]) -> Generator[Member, None, None]:
    """One archive. A reader that wants no more of it closes the generator, and the transfer is cancelled."""
    source, target = os.pipe()
    failures: list[Exception] = []
    sender = threading.Thread(target=_send, args=(handle, folder, target, excludes, failures), daemon=True)
    pipe = os.fdopen(source, "rb", buffering=_PIPE_BYTES)
    sender.start()
    try:
        yield from members(pipe, limit_of)
        _drain(pipe)
    except tarfile.TarError as error:
        failures.append(error)
    finally:
        pipe.close()
        sender.join()
    _raise(failures)


def _send(handle: Any, folder: str, target: int, excludes: list[str], failures: list[Exception]) -> None:
    try:
        handle.tar_out(folder, f"/dev/fd/{target}", numericowner=True, excludes=excludes)
    except FAILURES as error:
        failures.append(error)
    finally:
        os.close(target)


def _drain(pipe: IO[bytes]) -> None:
    """What tar pads its archive with."""
    with suppress(OSError):
        while pipe.read(_PIPE_BYTES):
            pass


def _raise(failures: list[Exception]) -> None:
    for failure in failures:
        if IO_ERROR in str(failure):
            raise failure
    if failures:
        raise Incomplete(str(failures[0])) from failures[0]
