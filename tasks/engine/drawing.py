"""Drawings of nodes and arrows as PNG, by Graphviz in a limited child process. What a node stands for is not known here.

Every label is hostile: in what Graphviz reads it stands as HTML whose every unusual character is a numeric entity, so that it
can neither end its string nor name a file. https://graphviz.org/doc/info/shapes.html#html
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tasks.engine import children
from tasks.engine.children import Launch, Limits
from tasks.engine.errors import HostUnavailable

LABEL_LENGTH = 36
"""Characters of one line of a label."""
TIMEOUT_SECONDS = 30.0
LIMITS = Limits(address_space=1 << 30, cpu_seconds=20, file_size=2 << 20, open_files=64)
"""The file size is that of the PNG: an artifact holds it."""
_GRAPH = 'rankdir=LR dpi=96 size="100,60" bgcolor=white pad=0.2 nodesep=0.16 ranksep=0.5 fontname="DejaVu Sans" fontsize=10'
_NODE = 'fontname="DejaVu Sans" fontsize=10 fontcolor="#16202e" margin="0.12,0.05" penwidth=1.2'
_EDGE = 'color="#7d8899" arrowsize=0.7 penwidth=1.1'


class Kind(StrEnum):
    """What a node looks like."""

    CARD = 'shape=box style="rounded,filled" color="#2f6fb5" fillcolor="#e8f1fb"'
    BLOCK = 'shape=box style="filled" color="#3d8a55" fillcolor="#e9f6ec"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A title in bold over small lines; `dashed` is something that is gone, `marked` what the drawing is about."""

    id: str
    kind: Kind
    title: str
    lines: tuple[str, ...] = ()
    dashed: bool = False
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two nodes, by their ids."""

    tail: str
    head: str


def draw(nodes: Sequence[Node], edges: Sequence[Edge], *, caption: str = "") -> bytes:
    """The nodes from left to right as PNG, at most 2 MiB. Raises HostUnavailable when Graphviz is absent or fails."""
    with tempfile.TemporaryDirectory(prefix="ims-drawing-", ignore_cleanup_errors=True) as name:
        source, target = Path(name, "graph.dot"), Path(name, "graph.png")
        source.write_text(_dot(nodes, edges, caption), encoding="ascii")
        launch = Launch(limits=LIMITS, environment=_environment(name))
        command = ["dot", "-Tpng", "-o", str(target), str(source)]
        status, words = children.run(command, launch, timeout_seconds=TIMEOUT_SECONDS)
        if status != 0:
            raise HostUnavailable("drawing", f"dot failed: {words or status}")
        return target.read_bytes()


def _environment(folder: str) -> dict[str, str]:
    """Nothing of this process's environment but where tools are; fontconfig writes its cache to the folder."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": folder, "XDG_CACHE_HOME": folder}


def _dot(nodes: Sequence[Node], edges: Sequence[Edge], caption: str) -> str:
    """The graph in Graphviz's language; nodes get names of ours."""
    names = {node.id: f"n{place}" for place, node in enumerate(nodes)}
    title = f" labelloc=b label=<{_html(caption)}>" if caption else ""
    lines = [f"graph [{_GRAPH}{title}]", f"node [{_NODE}]", f"edge [{_EDGE}]"]
    lines += [f"{names[node.id]} [{_looks(node)} label=<{_label(node)}>]" for node in nodes]
    lines += [f"{names[edge.tail]} -> {names[edge.head]}" for edge in edges]
    return "digraph {\n" + "\n".join(lines) + "\n}\n"


def _looks(node: Node) -> str:
    looks = node.kind.value
    if node.dashed:
        looks = looks.replace('filled"', 'filled,dashed"') + ' color="#8a8f98" fillcolor="#f4f4f5" fontcolor="#5c626b"'
    return looks + (' penwidth=3 color="#c25b00" fillcolor="#fff1dd"' if node.marked else "")


def _label(node: Node) -> str:
    rows = [f"<b>{_html(node.title)}</b>", *(f'<font point-size="8.5">{_html(line)}</font>' for line in node.lines)]
    cells = "".join(f"<tr><td>{row}</td></tr>" for row in rows)
    return f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{cells}</table>'


def _html(text: str) -> str:
    """The start of a text, with an entity for everything but plain letters and digits."""
    shown = text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"
    return "".join(_entity(character) for character in shown) or " "


def _entity(character: str) -> str:
    if character.isascii() and (character.isalnum() or character == " "):
        return character
    if character == "\\":  # Graphviz looks for escapes of its own after it has read the entities
        return "&#92;&#92;"
    return f"&#{ord(character) if character.isprintable() else 0xFFFD};"
