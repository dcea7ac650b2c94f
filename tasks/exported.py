"""Exported files in their bucket: how they are named, how long they stay, and the steps that remove those whose time is up.

They are put there by `tasks.outgoing`. Objects that no export of the catalog's wrote are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import PurePosixPath

from prefect import task
from pydantic import BaseModel

from models.operations import heartbeat
from models.reconciliation import operation_rows
from models.tables import utc_now
from models.trail import Change, write_audit
from tasks.engine.blobs.objects import ObjectInfo
from tasks.engine.settings import Settings, load_settings
from tasks.markdown import code, size, table
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.resources import catalog, exports_bucket
from tasks.sagas import Saga

KEY = re.compile(r"(?P<account>[^/]+)/(?P<operation>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/[A-Za-z0-9._-]+")
URL_SECONDS = 7 * 24 * 3600
"""The longest that S3 lets a presigned address live."""
BATCH = 100
MOST = 10_000
"""Files that one run removes; the next one goes on."""
SHOWN = 50


class ExportedFile(BaseModel):
    """One file in the exports bucket; `operation_id` is the export that wrote it. Size in bytes."""

    key: str
    account: str
    operation_id: str
    size: int
    modified: datetime


class ExportsView(BaseModel):
    """What a run removed of exported files, what stays, and how many objects there are no export's."""

    days: int
    removed: list[ExportedFile]
    kept: int
    kept_bytes: int
    strangers: int


def key_of(account: str, operation_id: str, name: str) -> str:
    """Where the file of an export is."""
    return f"{account}/{operation_id}/{name}"


def url_seconds(settings: Settings) -> int:
    """How long an address of an exported file may serve it: as long as the file stays, as far as S3 allows."""
    return min(URL_SECONDS, settings.export_days * 24 * 3600)


@task(**RETRIED, task_run_name="remove exported files")
def remove_expired(saga: Saga, days: int | None) -> ExportsView:
    """Remove what was exported more than `days` ago (None: as the setting says), in batches, each in the audit trail before."""
    kept_days = load_settings().export_days if days is None else days
    until = utc_now() - timedelta(days=kept_days)
    view = ExportsView(days=kept_days, removed=[], kept=0, kept_bytes=0, strangers=0)
    for batch in _batches(exports_bucket().list("")):
        known = _known(batch)
        view.strangers += len(batch) - len(known)
        due = [file for file in known if file.modified <= until][: MOST - len(view.removed)]
        _remove(saga, due)
        view.removed += due
        view.kept += len(known) - len(due)
        view.kept_bytes += sum(file.size for file in known) - sum(file.size for file in due)
    return view


@task(**ONCE, task_run_name="report")
def report_exports(saga: Saga, view: ExportsView) -> ExportsView:
    """Publish what was removed."""
    publish(key="expired-exports", text=exports_markdown(view), title="Expired exports")
    saga.result = {**view.model_dump(mode="json", exclude={"removed"}), "removed": len(view.removed)}
    return view


def exports_markdown(view: ExportsView) -> str:
    """Sums, and the first SHOWN files."""
    gone = sum(file.size for file in view.removed)
    rows = [
        ("Removed", str(len(view.removed)), size(gone)),
        ("Kept", str(view.kept), size(view.kept_bytes)),
        ("Not of any export: left alone", str(view.strangers), ""),
    ]
    parts = [f"# Exported files\n\nThey stay for {view.days} days.", table(("", "Files", "Size"), rows)]
    if view.removed:
        shown = [(code(file.key), file.modified.strftime("%Y-%m-%d %H:%M"), size(file.size)) for file in view.removed[:SHOWN]]
        parts.append(table(("Removed", "Exported (UTC)", "Size"), shown))
    if len(view.removed) > SHOWN:
        parts.append(f"And {len(view.removed) - SHOWN} more: `ims audit list` of their owners has each.")
    if len(view.removed) == MOST:
        parts.append("That is the most that one run removes; the next one goes on.")
    return "\n\n".join(parts)


def _batches(objects: Iterable[ObjectInfo]) -> Iterator[Sequence[ObjectInfo]]:
    rest = iter(objects)
    while batch := tuple(islice(rest, BATCH)):
        yield batch


def _known(objects: Sequence[ObjectInfo]) -> list[ExportedFile]:
    """Those that an export of the account in their key wrote."""
    matches = [(found, match) for found in objects if (match := KEY.fullmatch(found.key))]
    with catalog() as session:
        rows = operation_rows(session, ids={match["operation"] for _, match in matches})
        exports = {(row.id, row.account) for row in rows.values() if row.kind == "export"}
    return [
        ExportedFile(key=found.key, size=found.size, modified=found.modified, account=owner, operation_id=operation)
        for found, match in matches
        if (operation := match["operation"], owner := match["account"]) in exports
    ]


def _remove(saga: Saga, files: Sequence[ExportedFile]) -> None:
    """The trail first: a run that is killed in between removes them again, and none goes without a word."""
    if not files:
        return
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        for file in files:
            detail = {"file": PurePosixPath(file.key).name, "size": file.size}
            change = Change("export", file.operation_id, file.account, "kept", "expired", detail)
            write_audit(session, by=saga.actor, change=change)
    bucket = exports_bucket()
    for file in files:
        bucket.delete(file.key)
