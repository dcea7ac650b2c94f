"""The review of a version: a run that waits for its form in the Prefect UI, and the answer, which the command can give as well.

While it waits the run is suspended: no process, no lease, nothing that a restart could lose. What was answered is in the
catalog, where the first answer wins; the run only carries it there. The states are `models.versions`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from prefect import runtime, task
from prefect.cache_policies import INPUTS, RUN_ID
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field
from sqlmodel import Session

from models.accounts import require_reviewer
from models.market_tables import Listing, Scan, Version
from models.operations import heartbeat
from models.tables import Image, utc_now
from models.versions import decide, note_review_run, own_version
from models.vocabulary import Decision, VersionState
from tasks.engine.errors import NotFound, PrefectUnavailable, Refused
from tasks.markdown import cell, code, table
from tasks.market_views import MarketView, listing_markdown, market_view, scan_of
from tasks.policies import ONCE, RETRIED
from tasks.progress import log
from tasks.publishing import tell_version
from tasks.reports import publish
from tasks.resources import catalog
from tasks.sagas import Saga

DEPLOYMENT = "review-version/review-version"
SPARE_SECONDS = 3600
"""The run waits a little longer than the review, so that it is the expiry which ends both."""


class Review(RunInput):
    """The form."""

    decision: Literal["approve", "reject"]
    reviewer: Annotated[str, Field(min_length=1, max_length=63, pattern=r"\S")] = Field(
        description="Your account, which needs the reviewer role."
    )
    note: Annotated[str, Field(max_length=1024)] = Field("", description="What the publisher is told.")


@task(**RETRIED, task_run_name="ask reviewers")
def ask_reviewers(saga: Saga, version_id: str) -> str | None:
    """Start the run that waits for an answer, once a version. Returns its id; None where nothing is to be reviewed."""
    with catalog() as session:
        version = own_version(session, account=saga.account, version_id=version_id)
    if version.state is not VersionState.IN_REVIEW:
        return version.review_run_id
    try:
        run: Any = run_deployment(
            name=DEPLOYMENT,
            parameters={"version": version_id},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"review-{version_id}",
        )
    except ObjectNotFound as error:
        raise PrefectUnavailable(f"no deployment {DEPLOYMENT} is registered", remedy="Run `ims up`.") from error
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        note_review_run(session, version_id=version_id, flow_run_id=str(run.id))
    return str(run.id)


def review_name() -> str:
    """What a review's run is called."""
    version_id = str((runtime.flow_run.parameters or {}).get("version", ""))
    with catalog() as session:
        version = session.get(Version, version_id)
        listing = session.get(Listing, version.listing_id) if version else None
    return f"review {listing.title} {version.name} of {version.owner}" if listing and version else f"review {version_id}"


def wait_for_answer(version_id: str) -> Review | None:
    """Suspend the run until a reviewer has answered; None where the version is not in review (any more).

    Every resumption starts the run from its top, where answers given before come back at once. Someone who may not review is
    told so and the form is shown again.
    """
    turn, problem = 1, ""
    while (version := _in_review(version_id)) is not None:
        show_review(version_id, turn)
        # Never the same key twice in a run: its input could not be asked for again.
        key = f"review-{turn}-{runtime.flow_run.run_count}"
        form = Review.with_initial_data(description=_question(version, problem))
        answer: Review = suspend_flow_run(wait_for_input=form, timeout=_seconds_left(version) + SPARE_SECONDS, key=key)
        problem = _why_not(answer.reviewer)
        if not problem:
            return answer
        log.info("Answer of %s not taken: %s", answer.reviewer, problem)
        turn += 1
    return None


@task(retries=0, persist_result=True, cache_policy=RUN_ID + INPUTS, task_run_name="show version")
def show_review(version_id: str, turn: int) -> int:
    """Publish what the reviewer is asked about: the listing, the gate's report, the screen. Once a turn, however often run."""
    with catalog() as session:
        version, listing, scan = _loaded(session, version_id)
    report = scan.report if scan else "No report."
    text = f"{listing_markdown(listing, version)}\n\n---\n\n{report}"
    publish(key=f"review-{version_id}", text=text, title=f"Review of {cell(listing.title)} {version.name}")
    return turn


@task(**ONCE, task_run_name="{decision.value}")
def record_answer(saga: Saga, version_id: str, decision: Decision, note: str) -> MarketView:
    """The acting account's answer becomes the version's state. Raises StateRefused for a second answer or without the role."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        version = decide(session, version_id=version_id, decision=decision, note=note, by=saga.actor)
        view = market_view(session, version)
    tell_version(version.state.value, version, view.listing.title, by=saga.account, note=note)
    saga.result = view.model_dump(mode="json")
    return view


@task(**ONCE, task_run_name="report")
def report_review(version_id: str) -> MarketView:
    """Publish how the review ended."""
    with catalog() as session:
        version, listing, _ = _loaded(session, version_id)
        view = market_view(session, version)
    rows = [
        ("State", f"**{version.state}**"),
        ("Decided by", cell(version.reviewer or "nobody")),
        ("Note", code(version.note)),
        ("Own publication", "yes: the reviewer published it" if version.reviewer == version.owner else "no"),
    ]
    title = f"{cell(listing.title)} {version.name}"
    publish(key=f"reviewed-{version_id}", text=f"# {title}\n\n{table(('', ''), rows)}", title=f"{title}: {version.state}")
    return view


@task(**ONCE, task_run_name="let the review's run end")
def resume_run(version_id: str, answer: dict[str, str]) -> None:
    """Give the waiting run the answer that the catalog has already, so that it ends; one that is gone does not matter."""
    with catalog() as session:
        version = session.get(Version, version_id)
    if version is None or version.review_run_id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.resume_flow_run(UUID(version.review_run_id), run_input=answer)
    except (ObjectNotFound, PrefectHTTPStatusError) as error:
        log.info("The review's run was not resumed: %s", error)


def _in_review(version_id: str) -> Version | None:
    with catalog() as session:
        version = session.get(Version, version_id)
    if version is None:
        raise NotFound("version", version_id)
    return version if version.state is VersionState.IN_REVIEW and _seconds_left(version) > 0 else None


def _seconds_left(version: Version) -> int:
    return int((version.review_until - utc_now()).total_seconds()) if version.review_until else 0


def _why_not(reviewer: str) -> str:
    """Why this account's answer is not taken; empty where it is."""
    try:
        with catalog() as session:
            require_reviewer(session, name=reviewer, step="review a version")
    except Refused as error:
        return error.message
    return ""


def _loaded(session: Session, version_id: str) -> tuple[Version, Listing, Scan | None]:
    version = session.get_one(Version, version_id)
    return version, session.get_one(Listing, version.listing_id), scan_of(session, version)


def _question(version: Version, problem: str) -> str:
    """The form's text: short, because the fields stand below it."""
    with catalog() as session:
        _, listing, scan = _loaded(session, version.id)
        image = session.get_one(Image, version.image_id)
    warnings = len(scan.findings) if scan else 0
    rows = [
        ("Product", f"{cell(listing.title)} {cell(version.name)}"),
        ("Publisher", cell(version.owner)),
        ("Summary", code(version.summary)),
        ("Gate", f"passed, {warnings} warnings"),
        ("Boot proof", f"{image.boot_proof}"),
        ("Answer until", f"{version.review_until:%Y-%m-%d %H:%M} UTC"),
    ]
    parts = [f"**Not taken: {cell(problem)}**"] if problem else []
    parts += [table(("Review", ""), rows), "Listing, gate report and screen are among this run's artifacts."]
    return "\n\n".join(parts)
