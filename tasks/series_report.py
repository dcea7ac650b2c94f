"""What one run of a series did: its values, and its report as markdown. No Prefect and no catalog; steps are `tasks.series`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from tasks.markdown import cell, fenced, size, table
from tasks.views import ImageView

DRY_RUN = (
    "**Dry run: nothing was deleted.** What is marked WOULD DELETE goes when the run has `apply` (`ims series run --apply`)."
)
NO_ECS = (
    "**No ECS is named, so nothing was captured and nothing deleted.** Name some in the parameter `ecs` of the deployment "
    "`capture-series` (its page in the Prefect UI, *Edit*), or of one run: `ims series run ECS...`"
)

_CAPTURED = ("ECS", "Image", "State", "Stored", "New in the store", "Consistency", "Generalised")
_RETENTION = ("Verdict", "Image", "State", "Captured at", "Stored", "Id")


class Rule(BaseModel):
    """What a run does to each series: capture into `series`, then keep the newest `keep` images; delete the rest on `apply`."""

    series: str
    keep: int
    apply: bool


class Member(BaseModel):
    """One ECS of a run as it was `asked` for; without an `ecs_id` none was found. `image_name` is its image's."""

    asked: str
    ecs_id: str | None
    image_name: str


class Capture(BaseModel):
    """What became of one ECS: its image, or why there is none."""

    member: Member
    image: ImageView | None = None
    error: str = ""


class Line(BaseModel):
    """One image that retention looked at; `reason` says why it stays."""

    id: str
    name: str
    state: str
    created_at: datetime
    bytes_stored: int
    reason: str = ""


class Thinned(BaseModel):
    """What retention made of the series of one ECS; both lists are empty where its capture failed."""

    kept: list[Line] = []
    surplus: list[Line] = []


class SeriesView(BaseModel):
    """One run: ids of the images that it captured, deleted and, in a dry run, would delete; the ECSs that `failed` and why."""

    series: str
    apply: bool
    captured: list[str]
    failed: list[str]
    deleted: list[str]
    would_delete: list[str]
    artifact: str


def series_view(rule: Rule, captures: Sequence[Capture], thinned: Sequence[Thinned], *, artifact: str) -> SeriesView:
    """The run in short."""
    surplus = [line.id for one in thinned for line in one.surplus]
    return SeriesView(
        series=rule.series,
        apply=rule.apply,
        captured=[one.image.id for one in captures if one.image],
        failed=[failure(one) for one in captures if not one.image],
        deleted=surplus if rule.apply else [],
        would_delete=[] if rule.apply else surplus,
        artifact=artifact,
    )


def failure(capture: Capture) -> str:
    """Which ECS was not captured, and why, in one line."""
    return f"{capture.member.asked}: {capture.error}"


def series_markdown(rule: Rule, captures: Sequence[Capture], thinned: Sequence[Thinned]) -> str:
    """The report of a run."""
    title = f"# Series {cell(rule.series)}"
    if not captures:
        return f"{title}\n\n{NO_ECS}"
    lines = [_captured(one) for one in captures]
    parts = [title, _first_line(rule, thinned), "## Captured", table(_CAPTURED, lines)]
    if failed := [failure(one) for one in captures if not one.image]:
        parts += ["## Not captured", "Their series were left as they are.", fenced("\n".join(failed))]
    for capture, one in zip(captures, thinned, strict=True):
        if capture.image:
            parts += [f"## Series of {cell(capture.member.asked)}", _retention(rule, one)]
    return "\n\n".join(parts)


def _first_line(rule: Rule, thinned: Sequence[Thinned]) -> str:
    if not rule.apply:
        return DRY_RUN
    deleted = sum(len(one.surplus) for one in thinned)
    return f"Deleted: {deleted} (what is beyond the newest {rule.keep} of each ECS, and older failures)."


def _captured(capture: Capture) -> tuple[str, ...]:
    image = capture.image
    if image is None:
        return (_code(capture.member.asked), "none", "**failed**", "", "", "", "")
    stored, new = size(image.bytes_stored), size(image.bytes_new)
    generalized = "yes" if image.generalized else "no"
    return (_code(capture.member.asked), cell(image.name), image.state, stored, new, str(image.consistency), generalized)


def _retention(rule: Rule, one: Thinned) -> str:
    doomed = "**deleted**" if rule.apply else "**WOULD DELETE**"
    rows = [(doomed, line) for line in one.surplus] + [(f"kept: {line.reason}", line) for line in one.kept]
    rows.sort(key=lambda row: row[1].created_at, reverse=True)
    return table(_RETENTION, [_image_row(verdict, line) for verdict, line in rows])


def _image_row(verdict: str, line: Line) -> tuple[str, ...]:
    moment = f"{line.created_at:%Y-%m-%d %H:%M} UTC"
    return (verdict, cell(line.name), line.state, moment, size(line.bytes_stored), f"`{line.id}`")


def _code(text: str) -> str:
    """What somebody typed, not rendered."""
    return f"`{cell(text).replace('`', '')}`"
