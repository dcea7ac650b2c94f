"""Collect garbage: chunks and manifests that no image, ECS or running operation needs are found and, if asked, deleted.

For operators; the schedule deletes nothing unless its parameters say so. Safe beside everything else, to kill and to run again.
Needs the store and the catalog.
"""

from __future__ import annotations

from prefect import flow

from tasks import collecting, files
from tasks.collecting import CollectionView
from tasks.requests import AccountName, Adopt, Collects, KeepHours
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="collect-garbage", flow_run_name="collect garbage for {account}", description=__doc__)
def collect_garbage(
    account: AccountName = "admin", apply: Collects = False, keep_hours: KeepHours = 24, adopt: Adopt = False
) -> CollectionView:
    """Find and delete what nothing needs. Raises StateRefused for an account that is no operator, `store.foreign` for a bucket
    of another catalog, `store.incomplete` where a needed manifest cannot be read."""
    prove_operator(account, step="collect garbage")
    with saga(Call(kind="collect", account=account)) as held:
        collecting.own_bucket(apply, adopt)
        view = collecting.collect_store(held, apply, keep_hours)
        files.discard_scratch(held)
        return collecting.report_collection(held, view)
