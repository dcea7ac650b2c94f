"""Verify the store: every manifest is read, every chunk looked up, and a share of the chunks read: all in four weeks.

What cannot be read is named with the images and ECSs that it harms; the next image that contains it heals it.
For operators; the deployment runs it every night. Needs the store and the catalog.
"""

from __future__ import annotations

from prefect import flow

from tasks import files, verifying_store
from tasks.requests import AccountName, Everything
from tasks.resources import prove_operator
from tasks.sagas import Call, saga
from tasks.verifying_store import VerificationView


@flow(name="verify-store", flow_run_name="verify store for {account}", description=__doc__)
def verify_store(account: AccountName = "admin", everything: Everything = False) -> VerificationView:
    """Look for what is damaged or missing. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="verify the store")
    with saga(Call(kind="verify", account=account, facts={"everything": everything})) as held:
        plan = verifying_store.plan_reading(everything)
        seen = verifying_store.read_store(held, plan)
        files.discard_scratch(held)
        view = verifying_store.note_findings(held, plan, seen)
        return verifying_store.report_verification(held, view)
