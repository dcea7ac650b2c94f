"""A lineage as people and programs see it: plain values, lines of text, nodes and arrows to draw. No Prefect here: the command
that only reads prints it too. The tree comes from `models.lineage`; the picture is `tasks.engine.drawing`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from models.lineage import HIDDEN, LineageEcs, LineageNode
from models.vocabulary import ImageState
from tasks.engine.drawing import Edge, Kind, Node

SHORT_ID = 8


def tree_values(top: LineageNode) -> dict[str, Any]:
    """The tree as nested dictionaries of plain values."""
    return asdict(top)


def tree_text(top: dict[str, Any], *, asked: str) -> str:
    """The values of a tree as lines with box characters, the asked image marked by a star."""
    lines = ["… older generations"] if top["parent_image_id"] else []
    lines += [_image_line(top, asked), *_lines_below(top, asked, "")]
    if top["more"]:
        lines.append(_counted(top["more"], "image"))
    return "\n".join(lines)


def drawing_of(top: LineageNode, *, asked: str) -> tuple[list[Node], list[Edge], str]:
    """Nodes, arrows and a caption. An image hangs on the ECS it was captured from, where that is drawn, else on its parent."""
    images = list(_walk(top))
    drawn = {ecs.id for _, image in images for ecs in image.ecs}
    nodes = [_image_node(image, asked=asked, drawn=drawn) for _, image in images]
    nodes += [_ecs_node(ecs) for _, image in images for ecs in image.ecs]
    edges = [Edge(image.id, ecs.id) for _, image in images for ecs in image.ecs]
    for parent, image in images:
        if parent is not None:
            edges.append(Edge(image.source_ecs_id if image.source_ecs_id in drawn else parent.id, image.id))
    return nodes, edges, f"{_counted(top.more, 'image')}, not drawn" if top.more else ""


def name_in(top: LineageNode, asked: str) -> str:
    """The name that an image of the tree has."""
    return next(image.name for _, image in _walk(top) if image.id == asked)


def count_nodes(top: LineageNode) -> tuple[int, int]:
    """How many images and ECSs the tree shows."""
    images = [image for _, image in _walk(top)]
    return len(images), sum(len(image.ecs) for image in images)


def _walk(top: LineageNode, parent: LineageNode | None = None) -> Iterator[tuple[LineageNode | None, LineageNode]]:
    """Every image with its parent, parents first."""
    yield parent, top
    for child in top.children:
        yield from _walk(child, top)


def _lines_below(node: dict[str, Any], asked: str, indent: str) -> Iterator[str]:
    """The ECSs of an image, then its children with all that is below them."""
    leaves = [f"ECS {ecs['name']}  {ecs['state']}  {ecs['id']}" for ecs in node["ecs"]]
    leaves += [_counted(node["more_ecs"], "ECS")] if node["more_ecs"] else []
    entries: list[tuple[str, dict[str, Any] | None]] = [(leaf, None) for leaf in leaves]
    entries += [(_image_line(child, asked), child) for child in node["children"]]
    for place, (line, child) in enumerate(entries, start=1):
        last = place == len(entries)
        yield f"{indent}{'└── ' if last else '├── '}{line}"
        if child is not None:
            yield from _lines_below(child, asked, indent + ("    " if last else "│   "))


def _image_line(node: dict[str, Any], asked: str) -> str:
    star = "* " if node["id"] == asked else ""
    facts = (node["name"], _state(node["type"], node["state"]), node["id"], _source(node))
    return star + "  ".join(filter(None, facts))


def _source(node: dict[str, Any]) -> str:
    source = node["source_ecs_name"] or node["source_ecs_id"]
    return f"captured from ECS {source}" if source else ""


def _state(type: str, state: str) -> str:
    return f"{type}, {state}" if type else state


def _counted(count: int, noun: str) -> str:
    return f"… {count:,} more {noun}{'' if count == 1 else 's'}"


def _image_node(image: LineageNode, *, asked: str, drawn: set[str]) -> Node:
    title = image.name or image.id[:SHORT_ID]
    lines = [_state(image.type, image.state), image.id[:SHORT_ID] if image.name else ""]
    if image.source_ecs_name and image.source_ecs_id not in drawn:
        lines.append(f"from ECS {image.source_ecs_name}")
    if image.more_ecs:
        lines.append(_counted(image.more_ecs, "ECS"))
    gone = image.state in (HIDDEN, ImageState.DELETED)
    return Node(
        id=image.id, kind=Kind.CARD, title=title, lines=tuple(filter(None, lines)), dashed=gone, marked=image.id == asked
    )


def _ecs_node(ecs: LineageEcs) -> Node:
    return Node(id=ecs.id, kind=Kind.BLOCK, title=ecs.name, lines=(f"ECS, {ecs.state}", ecs.id[:SHORT_ID]))
