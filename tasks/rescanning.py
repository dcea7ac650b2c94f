"""Steps of the rescan: what the marketplace offers goes through the gate again, because the world learns and an image does not.

A disk's content is scanned once by the same rules, so a rescan costs an appliance only where the rules have changed.
"""

from __future__ import annotations

from prefect import task
from pydantic import BaseModel

from models.gate import Passage, latest_scan, record_passage
from models.market_tables import Version
from models.operations import heartbeat
from models.tables import Image
from models.versions import offered_versions, withdraw_version
from models.vocabulary import Purpose, WithdrawnFor
from tasks.engine.errors import ImsError
from tasks.gate import pass_gate
from tasks.gate_report import FindingView
from tasks.markdown import cell, table
from tasks.policies import ONCE
from tasks.progress import Progress
from tasks.publishing import tell_version
from tasks.reports import publish
from tasks.resources import catalog
from tasks.sagas import Saga

WITHDRAWALS = {"withdraw-new": WithdrawnFor.NEW, "withdraw-all": WithdrawnFor.ALL}
SHOWN = 500


class Rescanned(BaseModel):
    """One version: what the gate finds now and did not find before; `error` where it could not be looked at."""

    version_id: str
    title: str
    version: str
    owner: str
    new: list[FindingView] = []
    withdrawn: bool = False
    error: str = ""


class RescanView(BaseModel):
    """What a rescan looked at; `found` are versions with something new or an error."""

    versions: int
    found: list[Rescanned]


@task(**ONCE, task_run_name="rescan what is offered")
def rescan_all(saga: Saga, policy: str) -> RescanView:
    """Every version that somebody may launch, one after the other; one that cannot be looked at stops no other."""
    with catalog() as session:
        titles = dict(offered_versions(session))
    progress, outcomes = Progress("Rescan", total=len(titles)), []
    for count, (version_id, title) in enumerate(titles.items(), start=1):
        outcomes.append(_rescan(saga, version_id, title, policy))
        progress(count)
    view = RescanView(versions=len(outcomes), found=[each for each in outcomes if each.new or each.error])
    saga.result = view.model_dump(mode="json")
    return view


@task(**ONCE, task_run_name="report")
def report_rescan(view: RescanView, policy: str) -> None:
    """Publish what is new."""
    publish(key="rescan", text=rescan_markdown(view, policy), title="Marketplace rescan")


def rescan_markdown(view: RescanView, policy: str) -> str:
    """The report of a rescan."""
    rows = [
        (cell(each.title), cell(each.version), cell(each.owner), _told(each), "yes" if each.withdrawn else "no")
        for each in view.found[:SHOWN]
    ]
    head = f"# Marketplace rescan\n\n{view.versions} versions, {len(view.found)} with something new. Policy: {policy}."
    return head if not rows else f"{head}\n\n{table(('Listing', 'Version', 'Publisher', 'New', 'Withdrawn'), rows)}"


def _rescan(saga: Saga, version_id: str, title: str, policy: str) -> Rescanned:
    with catalog() as session:
        version = session.get_one(Version, version_id)
    outcome = Rescanned(version_id=version_id, title=title, version=version.name, owner=version.owner)
    try:
        passage = pass_gate(version.image_id, Purpose.RESCAN)
        outcome.new = _note(saga, version, passage)
        if outcome.new and policy in WITHDRAWALS:
            outcome.withdrawn = _withdraw(saga, version_id, WITHDRAWALS[policy])
    except ImsError as error:
        outcome.error = str(error)
    if outcome.new:
        codes = sorted({finding.code for finding in outcome.new})
        tell_version("finding", version, title, by=saga.account, codes=codes, withdrawn=outcome.withdrawn)
    return outcome


def _note(saga: Saga, version: Version, passage: Passage) -> list[FindingView]:
    """What rejects now and was not known at the last scan of the image; a verdict like that one is not kept again."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        last = latest_scan(session, image_id=version.image_id)
        before = {(each["code"], each["path"], each["detail"]) for each in (last.findings if last else ())}
        now = [FindingView.model_validate(finding) for finding in passage.findings]
        fresh = [each for each in now if (each.code, each.path, each.detail) not in before]
        if fresh:
            record_passage(session, image=session.get_one(Image, version.image_id), passage=passage, by=saga.actor)
    return [each for each in fresh if each.severity == "finding"]


def _withdraw(saga: Saga, version_id: str, scope: WithdrawnFor) -> bool:
    with catalog(write=True) as session:
        withdraw_version(session, version_id=version_id, scope=scope, by=saga.actor)
    return True


def _told(outcome: Rescanned) -> str:
    return cell(outcome.error) or ", ".join(f"`{code}`" for code in sorted({each.code for each in outcome.new}))
