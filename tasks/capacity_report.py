"""What the catalog holds, who holds it and how fast runs are, as a person reads it. Numbers: `models.figures`, `models.runs`.

Nothing here needs Prefect, so that `ims report` does not pay for it; the nightly steps are `tasks.capacity`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session

from models import figures, runs
from models.tables import Tally, utc_now
from models.tallies import IMAGE_MAKERS, list_tallies
from models.vocabulary import Outcome
from tasks.markdown import cell, size, table

SLOWEST = OLDEST = 10
DAY = 24 * 3600
Link = Callable[[str], str]


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ImagesLine(_View):
    """Images of one type and state."""

    type: str
    state: str
    images: int


class HolderLine(_View):
    """What one account's images hold, in bytes; a chunk of several disks is counted with each."""

    account: str
    images: int
    data: int
    stored: int


class PaceLine(_View):
    """How long the done operations of one kind took, in seconds."""

    kind: str
    runs: int
    median: float
    p95: float
    slowest: float


class RunLine(_View):
    """One operation; `seconds` is how long it took, or has been running for."""

    id: str
    kind: str
    account: str
    flow_run_id: str | None
    begun: datetime
    seconds: float


class StoreLine(_View):
    """What the bucket holds: chunks and their bytes, counted or, where it is large, estimated."""

    chunks: int
    bytes: int
    exact: bool


class BytesLine(_View):
    """Of present images, and of all that were ever brought in."""

    virtual: int
    data: int
    stored: int
    in_data: int
    in_stored: int
    in_new: int


class CapacityView(BaseModel):
    """The report: `days` is how far back runs were looked at. Without `store` the bucket was not asked."""

    at: datetime
    days: int
    images: list[ImagesLine]
    bytes: BytesLine
    dedup_factor: float | None
    store: StoreLine | None = None
    holders: list[HolderLine]
    paces: list[PaceLine]
    slowest: list[RunLine]
    unfinished: list[RunLine]


def capacity_view(session: Session, *, days: int) -> CapacityView:
    """All that the catalog knows of it. For an operator, whom the caller proves."""
    at = utc_now()
    held = _bytes(figures.sum_bytes(session), list_tallies(session))
    done = runs.done_runs(session, since=at - timedelta(days=days))
    slowest = sorted(done, key=lambda run: run.seconds, reverse=True)[:SLOWEST]
    unfinished = runs.oldest_unfinished(session, limit=OLDEST)
    return CapacityView(
        at=at,
        days=days,
        images=[ImagesLine.model_validate(count) for count in figures.count_images(session)],
        bytes=held,
        dedup_factor=round(held.in_stored / held.in_new, 2) if held.in_new else None,
        holders=[HolderLine.model_validate(holder) for holder in figures.largest_holders(session)],
        paces=[PaceLine.model_validate(pace) for pace in runs.paces(done)],
        slowest=[_line(run, run.seconds) for run in slowest],
        unfinished=[_line(run, (at - run.begun).total_seconds()) for run in unfinished],
    )


def capacity_markdown(view: CapacityView, *, run_url: Link) -> str:
    """The report, first what is held, then how runs went; a run's id leads to it."""
    parts = [
        f"# Catalog and capacity, {view.at:%Y-%m-%d %H:%M} UTC",
        "## Images",
        table(("Type", "State", "Images"), [(line.type, line.state, f"{line.images:,}") for line in view.images]),
        "## Bytes",
        table(("", ""), _bytes_rows(view)),
        _store_words(view.store),
        "## Accounts that hold most",
        table(("Account", "Images", "Data", "Compressed"), [_holder_row(line) for line in view.holders]),
        f"## Operations done in the last {view.days} days",
        table(("Kind", "Runs", "Median", "95 % within", "Slowest"), [_pace_row(line) for line in view.paces]),
        "## The slowest of them",
        _runs(view.slowest, "Took", run_url),
        "## Oldest that nobody has ended",
        _runs(view.unfinished, "Since", run_url),
    ]
    return "\n\n".join(part for part in parts if part)


def _bytes(present: figures.Bytes, tallies: Sequence[Tally]) -> BytesLine:
    made = [tally for tally in tallies if tally.kind in IMAGE_MAKERS and tally.outcome is Outcome.DONE]
    return BytesLine(
        virtual=present.virtual,
        data=present.data,
        stored=present.stored,
        in_data=sum(tally.data_bytes for tally in made),
        in_stored=sum(tally.stored_bytes for tally in made),
        in_new=sum(tally.new_bytes for tally in made),
    )


def _line(run: runs.Run, seconds: float) -> RunLine:
    return RunLine(
        id=run.id, kind=run.kind, account=run.account, flow_run_id=run.flow_run_id, begun=run.begun, seconds=round(seconds, 1)
    )


def _bytes_rows(view: CapacityView) -> list[tuple[str, str]]:
    held, store = view.bytes, view.store
    rows = [
        ("Present images: virtual size", size(held.virtual)),
        ("Present images: data", size(held.data)),
        ("Present images: compressed, each counted whole", size(held.stored)),
        ("Ever brought in: data", size(held.in_data)),
        ("Ever brought in: compressed", size(held.in_stored)),
        ("Ever brought in: had to be stored", size(held.in_new)),
        ("Deduplication factor", f"**{view.dedup_factor}**" if view.dedup_factor else "nothing was stored yet"),
    ]
    if store:
        about = "" if store.exact else "about "
        rows.append(("In the bucket now", f"{about}{size(store.bytes)} in {about}{store.chunks:,} chunks"))
    return rows


def _store_words(store: StoreLine | None) -> str:
    if store is None:
        return "The bucket was not listed; what had to be stored is the catalog's word."
    return "" if store.exact else "The bucket is large: its chunks were listed in part, and the rest follows from their names."


def _holder_row(line: HolderLine) -> tuple[str, ...]:
    return cell(line.account), f"{line.images:,}", size(line.data), size(line.stored)


def _pace_row(line: PaceLine) -> tuple[str, ...]:
    return cell(line.kind), f"{line.runs:,}", *(_duration(each) for each in (line.median, line.p95, line.slowest))


def _runs(lines: Sequence[RunLine], what: str, run_url: Link) -> str:
    rows = [
        (cell(line.kind), cell(line.account), f"{line.begun:%Y-%m-%d %H:%M}", _duration(line.seconds), _linked(line, run_url))
        for line in lines
    ]
    return table(("Kind", "Account", "Begun (UTC)", what, "Run"), rows) if rows else "None."


def _linked(line: RunLine, run_url: Link) -> str:
    return f"[{line.flow_run_id}]({run_url(line.flow_run_id)})" if line.flow_run_id else f"operation `{line.id}`"


def _duration(seconds: float) -> str:
    """Two units at most: `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < DAY:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // DAY)} d {int(seconds % DAY // 3600)} h"
