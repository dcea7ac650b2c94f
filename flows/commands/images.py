"""`ims image`: reads and switches go to the catalog, everything that takes long is a flow."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from models.exceptions import NotVisible
from models.gate import get_scan, list_scans
from models.image_changes import set_active, set_deprecated, set_protected
from models.images import ImageFilter, get_image, list_images
from models.lineage import lineage_of
from models.revocation import restore_image
from models.tables import Image, utc_now
from models.trail import Actor
from models.vocabulary import ImageType
from tasks.engine.errors import DiskRefused, RequestRefused
from tasks.engine.settings import load_settings
from tasks.finding import resolve_image
from tasks.gate_report import scan_view
from tasks.resources import catalog, require_account
from tasks.trees import tree_values
from tasks.views import image_view

REMOTE = ("inbox:", "http://", "https://")


def check(given: Namespace) -> dict[str, Any]:
    """The pre-flight's verdict; exit 2 where it refuses."""
    from tasks.engine.disks.formats import DiskFormat
    from tasks.preflight import check_source

    declared = DiskFormat(given.format) if given.format else None
    account = load_settings().account
    if given.source.startswith("inbox:"):
        with catalog() as session:
            require_account(session, account=account)
    try:
        found = check_source(account, given.source, declared=declared)
    except DiskRefused as error:
        refused: dict[str, Any] = {"verdict": "refused", "code": error.code, "message": error.message}
        return refused | {"format": given.format, "virtual_size": None, "exit_code": 2}
    answer: dict[str, Any] = {"verdict": "accepted", "code": None, "message": "The headers are in order."}
    return answer | {"format": found.format, "virtual_size": found.virtual_size or None}


def import_(given: Namespace) -> dict[str, Any]:
    """Run the import flow."""
    from flows.calling import run_flow

    options = {
        "description": given.description,
        "tags": given.tags,
        "min_memory_mib": given.min_memory,
        "idempotency_key": given.idempotency_key,
    }
    parameters = {
        "source": given.source if given.source.startswith(REMOTE) else str(Path(given.source).absolute()),
        "name": given.name,
        "account": load_settings().account,
        "format": given.format or "auto",
        "checksum": given.checksum,
        "verify": given.verify,
        "options": options,
    }
    return run_flow("import_image", parameters, detach=given.detach)


def list_all(given: Namespace) -> dict[str, Any]:
    """A page of the images that the account sees."""
    wanted = ImageType(given.type) if given.type else None
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        chosen = ImageFilter(type=wanted, everything=given.all)
        page = list_images(session, account=account, chosen=chosen, after=given.after, limit=given.limit)
        rows = [image_view(session, image, account=account).model_dump(mode="json") for image in page.rows]
        return {"images": rows, "after": page.after}


def show(given: Namespace) -> dict[str, Any]:
    """One image."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        image_id = resolve_image(session, account=account, wanted=given.id)
        image = get_image(session, account=account, image_id=image_id)
        shown = image_view(session, image, account=account).model_dump(mode="json")
        return shown | ({"capture": image.capture_detail} if image.owner == account and image.source_ecs_id else {})


def lineage(given: Namespace) -> dict[str, Any]:
    """The tree that an image is in; with --draw the flow that draws it."""
    if given.draw:
        from flows.calling import run_flow

        return run_flow("draw_lineage", {"image": given.id, "account": load_settings().account})
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        image_id = resolve_image(session, account=account, wanted=given.id)
        return {"id": image_id, "lineage": tree_values(lineage_of(session, account=account, image_id=image_id))}


def export(given: Namespace) -> dict[str, Any]:
    """Run the export flow."""
    from flows.calling import run_flow

    parameters = {
        "image": given.id,
        "format": given.format,
        "account": load_settings().account,
        "to": str(Path(given.to).absolute()) if given.to else None,
        "disk": given.disk,
    }
    return run_flow("export_image", parameters, detach=given.detach)


def delete(given: Namespace) -> dict[str, Any]:
    """Run the delete flow."""
    from flows.calling import run_flow

    return run_flow("delete_image", {"image": given.id, "account": load_settings().account})


def scan(given: Namespace) -> dict[str, Any]:
    """Run the scan flow; the package list goes to a file if one is named."""
    from flows.calling import run_flow

    answer = run_flow("scan_image", {"image": given.id, "account": load_settings().account}, detach=given.detach)
    if given.sbom and not given.detach:
        _write_sbom(answer["id"], Path(given.sbom))
    return answer | ({} if given.detach else {"exit_code": 0 if answer["passed"] else 2})


def scans(given: Namespace) -> dict[str, Any]:
    """Earlier scans of the account's own image."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        image_id = resolve_image(session, account=account, wanted=given.id)
        rows = list_scans(session, account=account, image_id=image_id)
        return {"image_id": image_id, "scans": [scan_view(row).model_dump(mode="json") for row in rows]}


def report(given: Namespace) -> dict[str, Any]:
    """A scan's report and package list."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        row = get_scan(session, account=account, scan_id=given.id)
        return scan_view(row).model_dump(mode="json") | {"report": row.report, "sbom": row.sbom}


def public(given: Namespace) -> dict[str, Any]:
    """Run the flow that shows an image to all."""
    return _flag(given, on=True)


def unpublic(given: Namespace) -> dict[str, Any]:
    """Run the flow that takes a public image back."""
    return _flag(given, on=False)


def revoke(given: Namespace) -> dict[str, Any]:
    """Run the revoke flow."""
    from flows.calling import run_flow

    parameters = {"image": given.id, "descendants": given.descendants, "account": load_settings().account}
    return run_flow("revoke_image", parameters)


def deactivate(given: Namespace) -> dict[str, Any]:
    """Refuse launches and exports."""
    return _switch(given, lambda session, image_id, by: set_active(session, image_id=image_id, active=False, by=by))


def reactivate(given: Namespace) -> dict[str, Any]:
    """Allow launches and exports again; an operator takes back a revocation of anybody's image, named by its id."""
    with catalog(write=True) as session:
        account = require_account(session, account=load_settings().account)
        try:
            image = restore_image(session, image_id=given.id, by=Actor(account))
        except NotVisible:  # nobody revoked it, or it is named by its name
            image_id = resolve_image(session, account=account, wanted=given.id)
            image = set_active(session, image_id=image_id, active=True, by=Actor(account))
        return image_view(session, image, account=account).model_dump(mode="json")


def deprecate(given: Namespace) -> dict[str, Any]:
    """Leave it out of lists from now on."""
    return _switch(given, lambda session, image_id, by: set_deprecated(session, image_id=image_id, at=utc_now(), by=by))


def protect(given: Namespace) -> dict[str, Any]:
    """Refuse its deletion."""
    return _switch(given, lambda session, image_id, by: set_protected(session, image_id=image_id, protected=True, by=by))


def unprotect(given: Namespace) -> dict[str, Any]:
    """Allow its deletion."""
    return _switch(given, lambda session, image_id, by: set_protected(session, image_id=image_id, protected=False, by=by))


def _flag(given: Namespace, *, on: bool) -> dict[str, Any]:
    from flows.calling import run_flow

    return run_flow("flag_public", {"image": given.id, "account": load_settings().account, "on": on})


def _write_sbom(scan_id: str, path: Path) -> None:
    with catalog() as session:
        row = get_scan(session, account=load_settings().account, scan_id=scan_id)
    try:
        path.write_text(row.sbom)
    except OSError as error:
        raise RequestRefused("sbom", f"{path} cannot be written: {error}", remedy="Name another file.") from error


def _switch(given: Namespace, change: Any) -> dict[str, Any]:
    with catalog(write=True) as session:
        account = require_account(session, account=load_settings().account)
        image_id = resolve_image(session, account=account, wanted=given.id)
        image: Image = change(session, image_id, Actor(account))
        return image_view(session, image, account=account).model_dump(mode="json")
