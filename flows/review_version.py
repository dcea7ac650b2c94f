"""Review: a version of the marketplace waits for the answer of an account with the reviewer role.

The run is suspended until its form (*Resume*) is filled in here or `ims market review` answers; it outlives restarts. Without
an answer in time the version is rejected. Needs the catalog alone.
"""

from __future__ import annotations

from prefect import flow

from models.vocabulary import Decision
from tasks import reviewing
from tasks.market_views import MarketView
from tasks.requests import VersionId
from tasks.sagas import Call, saga


@flow(name="review-version", flow_run_name=reviewing.review_name, description=__doc__)
def review_version(version: VersionId) -> MarketView:
    """Ask, and carry the answer to the catalog. Raises StateRefused where the image is not active any more."""
    answer = reviewing.wait_for_answer(version)
    if answer is not None:
        facts = {"version": version, "decision": answer.decision, "note": answer.note}
        with saga(Call(kind="review", account=answer.reviewer, facts=facts)) as held:
            if held.result is None:
                reviewing.record_answer(held, version, Decision(answer.decision), answer.note)
    return reviewing.report_review(version)
