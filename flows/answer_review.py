"""Answer: a reviewer approves or rejects a version without the form, whose run then ends. Needs the catalog alone."""

from __future__ import annotations

from prefect import flow

from tasks import reviewing
from tasks.market_views import MarketView
from tasks.requests import AccountName, Answer, Note, VersionId
from tasks.resources import prove
from tasks.sagas import Call, saga


@flow(name="answer-review", flow_run_name="{decision} {version} as {account}", description=__doc__)
def answer_review(version: VersionId, decision: Answer, note: Note = "", account: AccountName = "admin") -> MarketView:
    """Answer as an account with the reviewer role. Raises NotFound, StateRefused for a second answer."""
    prove(account)
    facts = {"version": version, "decision": decision, "note": note}
    with saga(Call(kind="review", account=account, facts=facts)) as held:
        if held.result is not None:
            return MarketView.model_validate(held.result)
        view = reviewing.record_answer(held, version, decision, note)
        reviewing.resume_run(version, {"decision": decision.value, "reviewer": account, "note": note})
    return view
