"""Steps on the lineage of an image: a picture of it with the tree as text, published or for another report to hold.

The tree itself is `models.lineage`, its text and its nodes `tasks.trees`, the PNG `tasks.engine.drawing`.
"""

from __future__ import annotations

from base64 import b64encode

from prefect import task
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel

from models.lineage import LineageNode, lineage_of
from tasks.engine.drawing import draw
from tasks.engine.errors import HostUnavailable
from tasks.engine.settings import load_settings
from tasks.markdown import fenced
from tasks.policies import RETRIED
from tasks.resources import catalog
from tasks.trees import count_nodes, drawing_of, name_in, tree_text, tree_values

PICTURED = 80
"""Images in a picture, and as many ECSs: what can be read in a browser. The text below it has the rest."""


class LineageView(BaseModel):
    """What was drawn: how many images and ECSs the text shows, `more` images beyond, and the artifact's key and address."""

    id: str
    images: int
    ecs: int
    more: int
    artifact: str
    url: str


@task(**RETRIED, task_run_name="draw lineage")
def draw_lineage(account: str, image_id: str) -> LineageView:
    """Publish the tree that the image is in. Raises NotFound, or HostUnavailable where it cannot be drawn."""
    whole, pictured = _load(account, image_id)
    key = f"lineage-{image_id}"
    name = name_in(whole, image_id)
    text = f"# Lineage of {name}\n\n{_picture(pictured, image_id)}\n\n{_fenced_tree(whole, image_id)}"
    create_markdown_artifact(key=key, markdown=text, description=f"Lineage of {name}")
    images, ecs = count_nodes(whole)
    url = f"{load_settings().prefect_ui}/artifacts/key/{key}"
    return LineageView(id=image_id, images=images, ecs=ecs, more=whole.more, artifact=key, url=url)


def lineage_markdown(account: str, image_id: str) -> str:
    """Picture and text of the tree for another report, without a title; the reason where it cannot be drawn. Raises NotFound.

    Whether the process may act for the account is its caller's to prove.
    """
    whole, pictured = _load(account, image_id)
    try:
        picture = _picture(pictured, image_id)
    except HostUnavailable as error:  # a report without a picture is still a report
        picture = f"No picture: {error.message}"
    return f"{picture}\n\n{_fenced_tree(whole, image_id)}"


def _load(account: str, image_id: str) -> tuple[LineageNode, LineageNode]:
    """The tree, and as much of it as a picture shows."""
    with catalog() as session:
        whole = lineage_of(session, account=account, image_id=image_id)
        return whole, lineage_of(session, account=account, image_id=image_id, limit=PICTURED)


def _picture(top: LineageNode, asked: str) -> str:
    nodes, edges, caption = drawing_of(top, asked=asked)
    png = b64encode(draw(nodes, edges, caption=caption)).decode()
    return f"![lineage](data:image/png;base64,{png})"


def _fenced_tree(top: LineageNode, asked: str) -> str:
    """The tree as text, never rendered."""
    return fenced(tree_text(tree_values(top), asked=asked))
