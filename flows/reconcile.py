"""Reconcile: catalog and host brought together again after a process was killed, a service went away or a host was restarted.

Abandoned operations, half-made images, stale locks, frozen guests, rows without domains, domains without rows and stray files
of this host are found, and each is repaired or reported. For operators; safe to kill and to run again.
Needs the catalog and this host's libvirt.
"""

from __future__ import annotations

from prefect import flow

from tasks import reconciling
from tasks.findings import ReconcileView
from tasks.reconciling import Wish
from tasks.requests import AccountName, DryRun, RemoveStrangers
from tasks.resources import prove_operator
from tasks.sagas import Call, saga


@flow(name="reconcile", flow_run_name="reconcile for {account}", description=__doc__)
def reconcile(
    account: AccountName = "admin", dry_run: DryRun = False, remove_strangers: RemoveStrangers = False
) -> ReconcileView:
    """Repair or report what is not as it should be. Raises StateRefused for an account that is no operator."""
    prove_operator(account, step="reconcile")
    wish = Wish(dry_run=dry_run, remove_strangers=remove_strangers)
    with saga(Call(kind="reconcile", account=account)) as held:
        found = reconciling.close_operations(held, wish)
        found += reconciling.close_images(held, wish)
        found += reconciling.release_locks(held, wish)
        found += reconciling.relieve_guests(held, wish)
        found += reconciling.match_states(held, wish)
        found += reconciling.remove_domains(held, wish)
        found += reconciling.remove_files(held, wish)
        return reconciling.report_findings(held, wish, found)
