"""Draw lineage: the tree of images captured from ECSs launched from images, with the ECSs that run each, as a picture.

A read: it changes nothing, and the same call gives the picture of the day. Needs the catalog and Graphviz.
"""

from __future__ import annotations

from prefect import flow

from tasks import images, lineage
from tasks.lineage import LineageView
from tasks.requests import AccountName, Identifier


@flow(name="draw-lineage", flow_run_name="lineage of {image} for {account}", description=__doc__)
def draw_lineage(image: Identifier, account: AccountName = "admin") -> LineageView:
    """Draw the tree that a visible image is in. Raises NotFound, HostUnavailable."""
    return lineage.draw_lineage(account, images.image_id_of(account, image))
