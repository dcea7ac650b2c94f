"""Result artifacts: what a person wants to read when a run has ended, as markdown in the Prefect UI, and its events."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact

from models.images import get_image
from models.tables import Image
from models.vocabulary import DiskKind
from tasks.events import of_account, of_tags, tell
from tasks.lineage import lineage_markdown
from tasks.markdown import boot_parts, cell, fenced, size, table
from tasks.policies import ONCE
from tasks.resources import catalog
from tasks.sagas import Saga
from tasks.views import EcsView, ImageView, image_view

SHOWN_PATHS = 50
"""Paths that a report shows of one operation; the catalog has them all."""


@task(**ONCE, task_run_name="report")
def report_image(saga: Saga, image_id: str) -> None:
    """Publish what became of an import: sizes, savings, the system found, the proof of boot with its picture."""
    with catalog() as session:
        image = get_image(session, account=saga.account, image_id=image_id)
        view = image_view(session, image, account=saga.account)
    publish(key=f"image-{image_id}", text=image_markdown(image, view), title=f"Image {view.name}")
    emit_active(saga, view)


def emit_active(saga: Saga, view: ImageView) -> None:
    """Tell whoever waits for images that this one can be used."""
    facts = {"account": saga.account, "state": view.state, "tags": view.tags, "digest": view.digest}
    related = [of_account(view.owner), *of_tags(view.tags)]
    tell("image.active", kind="image", subject=view.id, name=view.name, related=related, **facts)


@task(**ONCE, task_run_name="report")
def report_capture(saga: Saga, image_id: str) -> None:
    """Publish what became of a capture: how its ECS was read, what was removed of it, and where it comes from."""
    with catalog() as session:
        image = get_image(session, account=saga.account, image_id=image_id)
        view = image_view(session, image, account=saga.account)
    text = "\n\n".join([image_markdown(image, view), *capture_markdown(image), lineage_markdown(saga.account, image_id)])
    publish(key=f"image-{image_id}", text=text, title=f"Image {view.name}")
    emit_active(saga, view)


@task(**ONCE, task_run_name="report")
def report_ecs(saga: Saga, view: EcsView) -> None:
    """Publish how an ECS came up."""
    publish(key=f"ecs-{view.id}", text=ecs_markdown(view), title=f"ECS {view.name}")
    facts = {"image_id": view.image_id, "account": saga.account, "host": view.host}
    tell("ecs.active", kind="ecs", subject=view.id, name=view.name, related=[of_account(view.owner)], **facts)


def publish(*, key: str, text: str, title: str) -> None:
    """One markdown artifact of the current run."""
    create_markdown_artifact(key=key, markdown=text, description=title)


def image_markdown(image: Image, view: ImageView) -> str:
    """The report of an import. Guest text is fenced, never rendered."""
    data = sum(disk.data_bytes for disk in view.disks)
    rows = [
        ("Id", f"`{view.id}`"),
        ("State", view.state),
        ("Format", view.format or "as found"),
        ("System", " ".join(filter(None, (view.os_distro, view.os_version, view.architecture))) or "none recognised"),
        ("Boot proof", f"**{view.boot_proof}** {_proof(image)}"),
        ("Smallest disk", f"{view.min_disk_gib} GiB" if _launches(view) else "none: it holds no system"),
        ("Data on its disks", size(data)),
        ("Stored", f"{size(view.bytes_stored)} ({_share(view.bytes_stored, data)} of the data)"),
        ("New in the store", f"{size(view.bytes_new)} ({_share(view.bytes_new, view.bytes_stored)} of what is stored)"),
    ]
    parts = [f"# Image {cell(view.name)}", table(("", ""), rows), _disks(view)]
    parts += boot_parts(image.boot_detail)
    if _launches(view):
        parts.append(f"Launch it: `ims ecs launch {view.id} --name NAME`")
    return "\n\n".join(parts)


def capture_markdown(image: Image) -> list[str]:
    """How an ECS was captured and what was removed of it, as parts of a report."""
    detail = image.capture_detail
    rows = [
        ("Captured from ECS", f"`{image.source_ecs_id}`"),
        ("Consistency", f"**{image.consistency}** {cell(str(detail.get('note', '')))}"),
        ("Frozen for", f"{detail.get('frozen_seconds', 0)} s"),
        ("Generalised", "yes" if image.generalized else "no: its identity is still in it"),
    ]
    disks = [
        (str(disk["disk"]), f"{disk['read']} {cell(disk['reason'])}", disk["since"] or "", size(disk["new_bytes"]))
        for disk in detail.get("disks", ())
    ]
    parts = [f"## Capture\n\n{table(('', ''), rows)}", table(("Disk", "Read", "Since", "New in the store"), disks)]
    if removed := detail.get("removed"):
        lines = [f"{name}: {path} ({held} bytes)" for name, found in removed.items() for path, held in found[:SHOWN_PATHS]]
        parts.append(f"## Removed from it\n\n{fenced(chr(10).join(lines))}")
    if skipped := detail.get("skipped"):
        parts.append(f"## Could not be removed\n\n{fenced(chr(10).join(skipped))}")
    return parts


def ecs_markdown(view: EcsView) -> str:
    """The report of a launch."""
    ready = {"agent": "its guest agent answered", "login": "its console asked for a login"}.get(view.ready_by or "", "")
    rows = [
        ("Id", f"`{view.id}`"),
        ("State", view.state),
        ("Image", f"`{view.image_id}`"),
        ("Host", cell(view.host)),
        ("Flavor", cell(view.flavor)),
        ("Disk", f"{view.disk_gib} GiB"),
        ("Accelerator", view.accelerator or ""),
        ("Ready", f"after {view.seconds_to_ready} s: {ready or 'it runs and showed neither agent nor login'}"),
    ]
    return f"# ECS {cell(view.name)}\n\n{table(('', ''), rows)}\n\nIts console: `ims ecs console {view.id}`"


def _launches(view: ImageView) -> bool:
    return any(disk.kind == DiskKind.SYSTEM for disk in view.disks)


def _disks(view: ImageView) -> str:
    rows = [
        (str(disk.index), disk.kind, size(disk.virtual_size), size(disk.stored_bytes), f"`{disk.digest}`")
        for disk in view.disks
    ]
    return "## Disks\n\n" + table(("Disk", "Kind", "Virtual size", "Stored", "Digest"), rows)


def _proof(image: Image) -> str:
    detail = image.boot_detail
    if not detail:
        return ""
    return f"after {detail.get('seconds')} s, {detail.get('boot_mode')}, {detail.get('accelerator')}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
