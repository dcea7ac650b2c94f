"""Pieces of markdown that reports are made of. What a report says is decided in the module of each noun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIB = 1 << 20


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def fenced(text: str) -> str:
    """Text that is shown as it is, never rendered."""
    fence = "`" * 8
    return f"{fence}text\n{text.replace(fence, '')}\n{fence}"


def cell(text: str) -> str:
    """Text that leaves its table cell whole."""
    return text.replace("|", "\\|").replace("\n", " ")


def code(text: str, *, limit: int | None = None) -> str:
    """Somebody else's text in a table cell, as code that is never rendered, cut at `limit` characters; nothing of no text."""
    shown = cell(text[:limit].replace("`", "'"))
    return f"`{shown}`" if shown else ""


def boot_parts(detail: Mapping[str, Any]) -> list[str]:
    """What a boot check showed, screen and console, as parts of a report."""
    parts = []
    if picture := detail.get("screenshot_png"):
        parts.append(f"## Screen at the end of the boot check\n\n![screen](data:image/png;base64,{picture})")
    if tail := detail.get("console_tail"):
        parts.append(f"## End of its console\n\n{fenced(str(tail)[-4000:])}")
    return parts


def size(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
