"""Pictures by the real Graphviz: that they are pictures, what hostile labels do, and where drawing ends."""

from __future__ import annotations

import re
import struct
import subprocess

import pytest

from tasks.engine import drawing
from tasks.engine.children import Limits
from tasks.engine.drawing import Edge, Kind, Node, draw
from tasks.engine.errors import HostUnavailable

HOSTILE = [
    '"]; x [label="',
    "a\\",
    '\\" ]',
    "\\N\\G\\E",
    "<b>&lt;</b>",
    "</td>>",
    "a\0b\nc\x1b",
    "\udcff\u202e",
    "",
    " ",
    "é" * 500,
]


def card(name: str, **looks: object) -> Node:
    return Node(id=name, kind=Kind.CARD, title=name, **looks)  # type: ignore[arg-type]  # looks are a test's own


def size(png: bytes) -> tuple[int, int]:
    """Width and height of what must be a whole PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_drawing_runs_from_left_to_right() -> None:
    nodes = [card("first"), card("second", marked=True), Node(id="e", kind=Kind.BLOCK, title="third", dashed=True)]
    width, height = size(draw(nodes, [Edge("first", "second"), Edge("second", "e")], caption="and more"))
    assert width > 2 * height > 100


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_neither_node_nor_arrow(text: str) -> None:
    nodes = [card(text, lines=(text, text)), card("tame")]
    assert size(draw(nodes, [Edge(text, "tame")], caption=text)) > (0, 0)
    read = subprocess.run(
        ["dot", "-Tplain"], input=drawing._dot(nodes, [Edge(text, "tame")], text).encode(), capture_output=True
    )
    words = [line.split()[0] for line in read.stdout.decode().splitlines()]
    assert (words.count("node"), words.count("edge"), read.stderr) == (2, 1, b"")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_graphviz_in_plain_characters(text: str) -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|&#\d+;)+", drawing._html(text))


def test_long_text_is_cut() -> None:
    assert size(draw([card("w" * 100_000)], []))[0] < 600


def test_drawing_of_many_nodes_is_bounded() -> None:
    nodes = [card(f"image-{number}") for number in range(160)]
    width, height = size(draw(nodes, [Edge("image-0", node.id) for node in nodes[1:]]))
    assert width < 1000
    assert height < 9600


def test_picture_over_its_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "LIMITS", Limits(file_size=1000))
    with pytest.raises(HostUnavailable, match=r"host\.drawing"):
        draw([card("a"), card("b")], [Edge("a", "b")])


def test_missing_graphviz_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostUnavailable, match=r"host\.tool_missing.*make setup"):
        draw([card("a")], [])
