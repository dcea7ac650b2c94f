"""A lineage as text and as nodes and arrows."""

from __future__ import annotations

from models.lineage import LineageEcs, LineageNode
from tasks.engine.drawing import Edge
from tasks.trees import count_nodes, drawing_of, name_in, tree_text, tree_values

GOLDEN = LineageNode(
    id="2222",
    name="golden",
    state="active",
    type="private",
    parent_image_id="1111",
    source_ecs_id="e1",
    source_ecs_name="builder",
    ecs=(LineageEcs("e2", "web-1", "active"),),
    more_ecs=1,
)
GONE = LineageNode(
    id="3333", name="gone", state="deleted", type="private", parent_image_id="1111", source_ecs_id="e9", source_ecs_name="old"
)
TOP = LineageNode(id="1111-1111", ecs=(LineageEcs("e1", "builder", "stopped"),), children=(GOLDEN, GONE), more=1200)

TEXT = """\
hidden  1111-1111
├── ECS builder  stopped  e1
├── * golden  private, active  2222  captured from ECS builder
│   ├── ECS web-1  active  e2
│   └── … 1 more ECS
└── gone  private, deleted  3333  captured from ECS old
… 1,200 more images"""


def test_text_is_a_tree_with_the_asked_image_marked() -> None:
    assert tree_text(tree_values(TOP), asked="2222") == TEXT


def test_text_says_that_older_generations_are_left_out() -> None:
    assert tree_text(tree_values(GONE), asked="")[:21] == "… older generations\ng"


def test_drawing_hangs_an_image_on_its_source_where_that_is_drawn() -> None:
    _, edges, caption = drawing_of(TOP, asked="2222")
    assert edges == [Edge("1111-1111", "e1"), Edge("2222", "e2"), Edge("e1", "2222"), Edge("1111-1111", "3333")]
    assert caption == "… 1,200 more images, not drawn"


def test_drawing_marks_the_asked_image_and_dashes_what_is_gone() -> None:
    nodes = {node.id: node for node in drawing_of(TOP, asked="2222")[0]}
    assert [name for name, node in nodes.items() if node.marked] == ["2222"]
    assert [name for name, node in nodes.items() if node.dashed] == ["1111-1111", "3333"]
    assert (nodes["1111-1111"].title, nodes["1111-1111"].lines) == ("1111-111", ("hidden",))
    assert nodes["2222"].lines == ("private, active", "2222", "… 1 more ECS")
    assert nodes["3333"].lines == ("private, deleted", "3333", "from ECS old")


def test_nodes_are_counted_and_named() -> None:
    assert (count_nodes(TOP), name_in(TOP, "2222")) == ((3, 2), "golden")
