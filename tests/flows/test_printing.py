"""What people read in a terminal."""

from __future__ import annotations

import json

from flows.parsing.command import make_parser
from flows.printing import as_text
from models.lineage import LineageNode
from tasks.trees import tree_values

CHILD = LineageNode(id="2", name="child", state="active", type="private", parent_image_id="1")
TOP = LineageNode(id="1", name="base", state="active", type="public", children=(CHILD,))


def test_lineage_is_printed_as_a_tree() -> None:
    answer = json.loads(json.dumps({"id": "2", "lineage": tree_values(TOP)}))
    assert as_text(answer) == "base  public, active  1\n└── * child  private, active  2"


def test_lineage_is_a_read_unless_it_is_drawn() -> None:
    given = make_parser().parse_args(["image", "lineage", "web", "--json"])
    assert (given.run, given.id, given.draw, given.json) == ("flows.commands.images:lineage", "web", False, True)
    assert make_parser().parse_args(["image", "lineage", "web", "--draw"]).draw
