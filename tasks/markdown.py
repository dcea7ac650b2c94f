"""Pieces of markdown that reports are made of. What a report says is decided in the module of each noun."""

from __future__ import annotations

from collections.abc import Sequence

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


def size(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
