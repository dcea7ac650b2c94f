"""Steps of a scheduled capture: which ECSs, what today's images are called, what retention deletes, the report.

The captures themselves are the flow `capture_ecs`; what retention may delete is decided in `models.series`, and what the report
says in `tasks.series_report`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import State, task
from prefect.context import FlowRunContext
from sqlmodel import Session

from models.ecs import get_ecs
from models.exceptions import NotVisible
from models.images import delete_image
from models.operation_finding import get_operation
from models.operations import heartbeat, record_step, step_detail
from models.series import surplus
from models.tables import Image
from tasks.engine.errors import CaptureRefused, RequestRefused
from tasks.finding import resolve_ecs
from tasks.policies import ONCE, RETRIED
from tasks.reports import publish
from tasks.requests import CaptureOptions
from tasks.resources import catalog
from tasks.sagas import Saga
from tasks.series_report import (
    Capture,
    Line,
    Member,
    Rule,
    SeriesView,
    Thinned,
    failure,
    series_markdown,
    series_view,
)
from tasks.views import ImageView

MAX_NAME = 128
MAX_TOLD = 5
"""Failures that the error of a run quotes; its report has them all."""


def run_key() -> str | None:
    """Idempotency key of this flow run: a retry of it continues what it began, another run of the same request does not."""
    run = FlowRunContext.get()
    return f"series-{run.flow_run.id}" if run and run.flow_run else None


@task(**RETRIED, task_run_name="find ECSs")
def find_members(saga: Saga, ecs: Sequence[str]) -> list[Member]:
    """The ECSs asked for, each once. One that is not found is kept as asked: its capture says what is wrong with it."""
    with catalog() as session:
        begun = get_operation(session, account=saga.account, operation_id=saga.operation_id).created_at
        members = [_member(session, saga.account, asked, begun) for asked in ecs]
    return list({member.ecs_id or member.asked: member for member in members}.values())


def capture_options(saga: Saga, member: Member, series: str) -> CaptureOptions:
    """How a member is captured; the key makes a retry of this run continue the same capture."""
    key = f"series-{saga.flow_run_id}-{member.ecs_id}" if saga.flow_run_id and member.ecs_id else None
    return CaptureOptions(series=series, idempotency_key=key)


def capture_of(member: Member, state: State[Any]) -> Capture:
    """What became of a capture. Not a step: Prefect would raise the failure of a state that is given to one."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, ImageView):
        return Capture(member=member, image=result)
    return Capture(member=member, error=" ".join(str(result or state.message or state.name).split()))


@task(**RETRIED, task_run_name="thin series of {capture.member.asked}")
def thin(saga: Saga, capture: Capture, rule: Rule) -> Thinned:
    """Choose what is beyond `keep` and, on `apply`, delete it, all or nothing, once a run. A failed capture deletes nothing."""
    if capture.image is None:
        return Thinned()
    with catalog(write=rule.apply) as session:
        return _applied(session, saga, capture, rule) if rule.apply else _chosen(session, saga, capture, rule)


@task(**ONCE, task_run_name="report")
def report_series(saga: Saga, rule: Rule, captures: list[Capture], thinned: list[Thinned]) -> SeriesView:
    """Publish what was captured, what is kept, and what was or would be deleted."""
    key = artifact_key(saga.account, rule.series)
    publish(key=key, text=series_markdown(rule, captures, thinned), title=f"Series {rule.series}")
    view = series_view(rule, captures, thinned, artifact=key)
    saga.result = view.model_dump(mode="json")
    return view


def require_captured(captures: Sequence[Capture]) -> None:
    """Raises CaptureRefused where an ECS of the run was not captured."""
    failed = [failure(one) for one in captures if one.image is None]
    if failed:
        told = "; ".join(failed[:MAX_TOLD]) + ("; ..." if len(failed) > MAX_TOLD else "")
        remedy = "The run's report has what was done for the others; a retry of the run goes on with those that failed."
        raise CaptureRefused("series", f"{len(failed)} of {len(captures)} ECSs were not captured: {told}", remedy=remedy)


def image_name(ecs_name: str, moment: datetime) -> str:
    """What an image of an ECS is called: the ECS's name and the minute in UTC, within the rule for names."""
    suffix = f" {moment.astimezone(UTC):%Y-%m-%d %H%M}"
    legal = re.sub(r"[^A-Za-z0-9 ._-]", "-", ecs_name).strip()
    return (legal[: MAX_NAME - len(suffix)].rstrip() or "ecs") + suffix


def artifact_key(account: str, series: str) -> str:
    """One artifact for all runs of an account's series, so that the UI shows them as its versions."""
    return "series-" + re.sub(r"[^a-z0-9]+", "-", f"{account} {series}".lower()).strip("-")


def _member(session: Session, account: str, asked: str, begun: datetime) -> Member:
    try:
        ecs_id = resolve_ecs(session, account=account, wanted=asked)
    except (NotVisible, RequestRefused):
        return Member(asked=asked, ecs_id=None, image_name=image_name(asked, begun))
    name = get_ecs(session, account=account, ecs_id=ecs_id).name
    return Member(asked=asked, ecs_id=ecs_id, image_name=image_name(name, begun))


def _chosen(session: Session, saga: Saga, capture: Capture, rule: Rule) -> Thinned:
    plan = surplus(
        session,
        account=saga.account,
        series=rule.series,
        source_ecs_id=capture.member.ecs_id or "",
        keep=rule.keep,
        lock=rule.apply,
    )
    kept = [_line(kept.image, kept.reason) for kept in plan.kept]
    return Thinned(kept=kept, surplus=[_line(image) for image in plan.surplus])


def _applied(session: Session, saga: Saga, capture: Capture, rule: Rule) -> Thinned:
    """What the run deleted, in an earlier attempt or now."""
    step = f"thin {capture.member.ecs_id}"
    operation = get_operation(session, account=saga.account, operation_id=saga.operation_id)
    if (done := step_detail(operation, name=step)) is not None:
        return Thinned.model_validate(done)
    heartbeat(session, lease=saga.held)
    thinned = _chosen(session, saga, capture, rule)
    for line in thinned.surplus:
        delete_image(session, image_id=line.id, by=saga.actor)
    record_step(session, lease=saga.held, name=step, detail=thinned.model_dump(mode="json"))
    return thinned


def _line(image: Image, reason: str = "") -> Line:
    return Line(
        id=image.id,
        name=image.name,
        state=image.state,
        created_at=image.created_at,
        bytes_stored=sum(disk.stored_bytes for disk in image.disks),
        reason=reason,
    )
