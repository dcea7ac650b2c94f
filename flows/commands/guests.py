"""`ims ecs`: reads go to the catalog and to libvirt, everything that changes a guest is a flow."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from models.ecs import get_ecs, list_ecs
from models.hosts import reachable_uri
from tasks.engine.errors import RequestRefused, StateRefused
from tasks.engine.settings import load_settings
from tasks.finding import resolve_ecs
from tasks.resources import catalog, hypervisor, require_account
from tasks.views import EcsView, ecs_view

if TYPE_CHECKING:
    from tasks.engine.guests.hypervisor import Hypervisor


def launch(given: Namespace) -> dict[str, Any]:
    """Run the launch flow."""
    from flows.calling import run_flow

    options = {
        "disk_gib": given.disk,
        "data_disks_gib": given.data_disk,
        "ssh_keys": [key for file in given.ssh_key for key in _keys(file)],
        "user_data_file": str(Path(given.user_data).absolute()) if given.user_data else None,
        "host": given.host,
        "standalone": given.standalone,
        "idempotency_key": given.idempotency_key,
    }
    parameters = {
        "image": given.id,
        "name": given.name,
        "account": load_settings().account,
        "flavor": given.flavor,
        "options": options,
    }
    return run_flow("launch_ecs", parameters, detach=given.detach)


def list_all(given: Namespace) -> dict[str, Any]:
    """A page of the account's ECSs."""
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        page = list_ecs(session, account=account, after=given.after, limit=given.limit)
        return {"ecs": [ecs_view(ecs).model_dump(mode="json") for ecs in page.rows], "after": page.after}


def show(given: Namespace) -> dict[str, Any]:
    """One ECS, with what libvirt says of its domain; `elsewhere` where its host's libvirt is not reached from here."""
    view = _view(given)
    domain = "elsewhere"
    if (libvirt := _libvirt_of(view.host)) is not None:
        from tasks.engine.guests import domain as domains

        with libvirt as host:
            domain = str(domains.state(host, UUID(view.id)))
    return view.model_dump(mode="json") | {"domain": domain}


def _libvirt_of(name: str) -> Hypervisor | None:
    """A host's libvirt: this one's, or another's whose address says how to get there."""
    if name == load_settings().host:
        return hypervisor()
    with catalog() as session:
        uri = reachable_uri(session, name=name)
    return hypervisor(uri) if uri else None


def console(given: Namespace) -> dict[str, Any]:
    """The end of the serial console's log."""
    from tasks.engine.guests.console import console_tail
    from tasks.engine.guests.overlay import ecs_files

    view = _here(given)
    text = console_tail(ecs_files(load_settings().ecs_folder, UUID(view.id)).console)
    return {"id": view.id, "console": "\n".join(text.splitlines()[-given.lines :])}


def screenshot(given: Namespace) -> dict[str, Any]:
    """Save what is on the screen of a running ECS as PNG."""
    from tasks.engine.guests.overlay import ecs_files
    from tasks.engine.guests.screenshot import screenshot_png

    view = _here(given)
    path = Path(given.to) if given.to else ecs_files(load_settings().ecs_folder, UUID(view.id)).screenshot
    if view.state != "active":
        raise StateRefused("ecs", "state", f"ECS {view.id} is {view.state}", remedy="Start it first.")
    with hypervisor() as host:
        picture = screenshot_png(host.domain(UUID(view.id)))
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise RequestRefused("target", f"{path} cannot be written: {error}", remedy="Name another file.") from error
    return {"id": view.id, "path": str(path.absolute()), "size": len(picture)}


def capture(given: Namespace) -> dict[str, Any]:
    """Run the capture flow."""
    from flows.calling import run_flow

    options = {
        "disk": given.disk,
        "consistency": given.consistency,
        "description": given.description,
        "tags": given.tags,
        "series": given.series,
        "idempotency_key": given.idempotency_key,
    }
    parameters = {
        "ecs": given.id,
        "name": given.name,
        "account": load_settings().account,
        "whole": given.whole,
        "generalize": given.generalize,
        "verify": given.verify,
        "options": options,
    }
    return run_flow("capture_ecs", parameters, detach=given.detach)


def attach(given: Namespace) -> dict[str, Any]:
    """Run the attach flow."""
    from flows.calling import run_flow

    parameters = {"ecs": given.id, "image": given.image, "account": load_settings().account}
    return run_flow("attach_disk", parameters, detach=given.detach)


def stop(given: Namespace) -> dict[str, Any]:
    """Run the stop flow."""
    return _run("stop_ecs", given)


def start(given: Namespace) -> dict[str, Any]:
    """Run the start flow."""
    return _run("start_ecs", given)


def delete(given: Namespace) -> dict[str, Any]:
    """Run the delete flow."""
    return _run("delete_ecs", given)


def _run(verb: str, given: Namespace) -> dict[str, Any]:
    from flows.calling import run_flow

    return run_flow(verb, {"ecs": given.id, "account": load_settings().account})


def _view(given: Namespace) -> EcsView:
    with catalog() as session:
        account = require_account(session, account=load_settings().account)
        ecs_id = resolve_ecs(session, account=account, wanted=given.id)
        return ecs_view(get_ecs(session, account=account, ecs_id=ecs_id))


def _here(given: Namespace) -> EcsView:
    view = _view(given)
    if view.host != load_settings().host:
        raise StateRefused("ecs", "elsewhere", f"ECS {view.id} is on host {view.host}", remedy="Ask there.")
    return view


def _keys(file: str) -> list[str]:
    from tasks.engine.guests.seed import read_ssh_keys

    try:
        return read_ssh_keys(Path(file).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused("ssh_keys", f"{file} cannot be read: {error}", remedy="Give a public key file.") from error
