"""The console log of a guest, read with suspicion: its bytes come from the guest. virtlogd writes and rotates the file.

What the lines prove for a boot is decided in `boot_check` and `ready`.
"""

from __future__ import annotations

import re
from pathlib import Path

MAX_TAIL = 256 << 10
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[()][A-Z0-9]|[@-Z\\-_=>78c])")
_LOGIN = re.compile(r"^(?!Last )[\w.-]{1,64} login: ?", re.MULTILINE)
_KERNEL = re.compile(r"Linux version \d|^\[ *\d+\.\d{6}\] |^FreeBSD .*RELEASE|^NetBSD \d|^OpenBSD \d", re.MULTILINE)


def console_tail(console: Path, *, max_bytes: int = 16 << 10) -> str:
    """The last `max_bytes` of what the guest wrote since its start, as plain text; empty where it wrote nothing."""
    wanted = min(max_bytes, MAX_TAIL)
    newest = _last_bytes(console, wanted)
    if len(newest) < wanted:
        newest = _last_bytes(_rotated(console), wanted - len(newest)) + newest
    return plain_text(newest)


def set_aside(console: Path) -> None:
    """Keep the log of the previous run under console.previous.log and drop older ones, so that a run's log is its own."""
    for old in console.parent.glob(f"{console.name}.[0-9]*"):
        old.unlink(missing_ok=True)
    if console.exists():
        console.replace(console.with_suffix(".previous.log"))


def plain_text(raw: bytes) -> str:
    """Text without terminal escapes and control characters, so that it can be printed anywhere."""
    text = _ESCAPES.sub("", raw.decode("utf-8", errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def shows_login(text: str) -> bool:
    """Whether a getty asked for a name."""
    return _LOGIN.search(text) is not None


def shows_kernel(text: str) -> bool:
    """Whether a kernel wrote."""
    return _KERNEL.search(text) is not None


def _rotated(console: Path) -> Path:
    return console.with_name(f"{console.name}.0")


def _last_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - count))
            return log.read(count)
    except FileNotFoundError:
        return b""
