"""Steps that show an operator's image to every account, and take it back. The gate before it is `tasks.gate`."""

from __future__ import annotations

from prefect import task

from models.accounts import require_operator
from models.gate import set_public, unset_public
from models.images import own_image
from models.operations import heartbeat
from models.tables import Image
from tasks.engine.errors import StateRefused
from tasks.events import tell
from tasks.gate_report import ScanView
from tasks.policies import ONCE, RETRIED
from tasks.resources import catalog
from tasks.sagas import Saga
from tasks.views import ImageView, image_view


@task(**ONCE, task_run_name="check operator")
def require_operator_of(account: str, image_id: str) -> None:
    """Only an operator's own image is for all. Raises StateRefused, NotFound."""
    with catalog() as session:
        require_operator(session, name=account, step="make an image public")
        own_image(session, account=account, image_id=image_id)


@task(**RETRIED, task_run_name="show to all")
def show_to_all(saga: Saga, image_id: str, scan: ScanView) -> ImageView:
    """Flag the image. Raises StateRefused with what the gate found where it did not pass."""
    if not scan.passed:
        codes = ", ".join(sorted({each.code for each in scan.findings if each.severity == "finding"}))
        reason = f"image {image_id} did not pass the gate: {codes}"
        raise StateRefused("image", "gate", reason, remedy="The run's report has every path and a remedy.")
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        image = set_public(session, image_id=image_id, scan_id=scan.id, by=saga.actor)
        view = image_view(session, image, account=saga.account)
    return _done(saga, image, view)


@task(**RETRIED, task_run_name="take back")
def take_back(saga: Saga, image_id: str) -> ImageView:
    """From now on the image is its owner's alone; ECSs run on."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        image = unset_public(session, image_id=image_id, by=saga.actor)
        view = image_view(session, image, account=saga.account)
    return _done(saga, image, view)


def _done(saga: Saga, image: Image, view: ImageView) -> ImageView:
    tell("image.public", kind="image", subject=image.id, name=image.name, public=image.public, by=saga.account)
    saga.result = view.model_dump(mode="json")
    return view
