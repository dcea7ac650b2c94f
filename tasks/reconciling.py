"""Steps of a reconciliation: each looks for one sort of thing that a killed run left behind, and repairs or reports each.

What is wrong and how it is told is `tasks.findings`, what is done about it `tasks.repairs`. One host at a time, every account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from prefect import task
from pydantic import BaseModel

from models.ecs import ecs_on_host
from models.locks import stale_locks
from models.operation_finding import running_operations
from models.operations import is_held
from models.reconciliation import deleted_images, ecs_in_use, ecs_rows, operation_rows, orphaned_images
from models.tables import Ecs, Operation
from models.vocabulary import EcsState, OperationState
from tasks import repairs
from tasks.engine.errors import ImsError
from tasks.engine.guests import inventory, watch
from tasks.engine.guests.backup import Job
from tasks.engine.guests.domain import DomainState, domains
from tasks.engine.guests.inventory import SeenDomain
from tasks.engine.guests.overlay import folders_by_id
from tasks.engine.settings import load_settings
from tasks.findings import Cure, Finding, ReconcileView, findings_markdown, judge, summed_up
from tasks.guests import files_of
from tasks.holders import is_alive
from tasks.policies import ONCE, RETRIED
from tasks.progress import log
from tasks.reports import publish
from tasks.resources import catalog, hypervisor
from tasks.sagas import Saga, release_lock

DAY = 24 * 3600
NOT_RESUMED = ("capture", "export")
"""Kinds of operations whose next attempt begins with an empty folder; an import goes on with what it downloaded."""
UNKNOWN = "Another catalog may own it; if none does: `ims reconcile --remove-strangers`."


class Wish(BaseModel):
    """What the operator allows: nothing at all, or also the removal of what the catalog does not know."""

    dry_run: bool = False
    remove_strangers: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A finding and its repair; without one it is somebody else's to see to."""

    finding: Finding
    repair: Callable[[], bool] | None = None


@task(**RETRIED, task_run_name="close abandoned operations")
def close_operations(saga: Saga, wish: Wish) -> list[Finding]:
    """Operations whose process is gone: undone, failed, and what they were making with them."""
    if not wish.dry_run:
        release_lock(saga)  # an earlier attempt of this very operation may have died in a repair
    with catalog() as session:
        dead = [each for each in running_operations(session) if not is_held(each, is_alive=is_alive)]
    return settle(wish, [Case(_abandoned(each), partial(repairs.close_operation, saga, each)) for each in dead])


@task(**RETRIED, task_run_name="close half-made images")
def close_images(saga: Saga, wish: Wish) -> list[Finding]:
    """Unfinished images that no operation makes."""
    with catalog() as session:
        images = orphaned_images(session)
    cases = [
        Case(
            Finding(kind="image.unfinished", subject=each.id, owner=each.owner, found=f"{each.state}, and nobody makes it"),
            partial(repairs.close_image, saga, each.id),
        )
        for each in images
    ]
    return settle(wish, cases)


@task(**RETRIED, task_run_name="release stale locks")
def release_locks(saga: Saga, wish: Wish) -> list[Finding]:
    """Locks of ECSs that no live operation holds."""
    with catalog() as session:
        stale = stale_locks(session, host=load_settings().host, is_alive=is_alive)
        running = {each.id for each in running_operations(session)}  # those are findings of their own
    found = [
        (each, Finding(kind="ecs.lock", subject=each.id, owner=each.owner, found=f"locked by {each.locked_by}, which is over"))
        for each in stale
        if each.locked_by not in running
    ]
    return settle(wish, [Case(finding, partial(repairs.free_ecs, saga, each.id)) for each, finding in found])


@task(**RETRIED, task_run_name="let guests go")
def relieve_guests(saga: Saga, wish: Wish) -> list[Finding]:
    """Guests that a capture left frozen or with a backup job."""
    settings = load_settings()
    with catalog() as session:
        rows = {row.id: row for row in ecs_on_host(session, host=settings.host)}
    owed = [str(ecs_id) for ecs_id, _ in watch.due_debts(settings.ecs_folder)]
    done = settle(wish, [_debt_case(ecs_id, rows.get(ecs_id)) for ecs_id in owed])
    with hypervisor() as host:
        seen = inventory.domains_here(host)
    with catalog() as session:  # again: whose guest was let go above may be locked by now
        rows = {row.id: row for row in ecs_on_host(session, host=settings.host)}
    jobs = ((rows[str(ecs_id)], each.job) for ecs_id, each in seen.items() if str(ecs_id) in rows)
    return done + settle(wish, [case for row, job in jobs for case in _backup_cases(saga, row, job)])


@task(**RETRIED, task_run_name="match states")
def match_states(saga: Saga, wish: Wish) -> list[Finding]:
    """ECSs whose row, guest and files do not agree, and that no operation is at work on."""
    host_name = load_settings().host
    with hypervisor() as host:
        seen = domains(host)
    with catalog() as session:
        rows = ecs_on_host(session, host=host_name)
        busy = ecs_in_use(session, ids=[row.id for row in rows], but=saga.operation_id)
    return settle(wish, _state_cases(saga, [row for row in rows if row.id not in busy], seen))


@task(**RETRIED, task_run_name="look for strange domains")
def remove_domains(saga: Saga, wish: Wish) -> list[Finding]:
    """Domains of ECSs that are deleted, on another host, or nowhere in the catalog."""
    with hypervisor() as host:
        seen = inventory.domains_here(host)
    with catalog() as session:
        rows = ecs_rows(session, ids=[str(ecs_id) for ecs_id in seen])
    cases = (_domain_case(saga, wish, str(ecs_id), each, rows.get(str(ecs_id))) for ecs_id, each in seen.items())
    return settle(wish, [case for case in cases if case is not None])


@task(**RETRIED, task_run_name="look for strange files")
def remove_files(saga: Saga, wish: Wish) -> list[Finding]:
    """Folders of ECSs that are deleted or unknown, of boot checks and of operations that are over."""
    settings = load_settings()
    folders = folders_by_id(settings.ecs_folder)
    with hypervisor() as host:
        in_use = inventory.checked_folders(host)
        left = {str(ecs_id): path for ecs_id, path in folders.items() if host.find(ecs_id) is None}
    with catalog() as session:
        rows = ecs_rows(session, ids=left)
    cases = [case for ecs_id, path in left.items() if (case := _folder_case(saga, wish, ecs_id, path, rows.get(ecs_id)))]
    for path in inventory.old_check_folders(settings.ecs_folder, seconds=DAY):
        if path.resolve() not in in_use:
            finding = Finding(kind="files.stranger", subject=path.name, found="a boot check that ended left it")
            cases.append(Case(finding, partial(repairs.remove_path, path)))
    return settle(wish, [*cases, *_working_folders(settings.scratch)])


@task(**ONCE, task_run_name="report")
def report_findings(saga: Saga, wish: Wish, findings: list[Finding]) -> ReconcileView:
    """Publish what was found and done."""
    view = summed_up(findings, dry_run=wish.dry_run)
    host = load_settings().host
    publish(key=f"reconcile-{saga.operation_id}", text=findings_markdown(view, host=host), title=f"Reconciliation of {host}")
    saga.result = view.model_dump(mode="json")
    return view


def settle(wish: Wish, cases: Iterable[Case]) -> list[Finding]:
    """Repair what can be, one by one: a failure is told with its finding and stops none of the others."""
    findings = []
    for case in cases:
        try:
            finding = _settled(wish, case)
        except (ImsError, OSError) as error:  # OSError: a full disk, under what is written beside a guest's files
            finding = case.finding.model_copy(update={"action": "reported", "remedy": str(error)})
        if finding is not None:
            log.info("%s %s: %s; %s. %s", finding.kind, finding.subject, finding.found, finding.action, finding.remedy)
            findings.append(finding)
    return findings


def _settled(wish: Wish, case: Case) -> Finding | None:
    """The finding with what became of it; None where nothing was wrong any more."""
    if case.repair is None:
        return case.finding
    if wish.dry_run:
        return case.finding.model_copy(update={"action": "would repair"})
    return case.finding.model_copy(update={"action": "repaired"}) if case.repair() else None


def _abandoned(operation: Operation) -> Finding:
    made = f", which was making {operation.subject_id}" if operation.subject_id else ""
    found = f"{operation.kind}{made}: process {operation.lease_pid} on {operation.lease_host} is gone"
    return Finding(kind="operation.abandoned", subject=operation.id, owner=operation.account, found=found)


def _debt_case(ecs_id: str, row: Ecs | None) -> Case:
    found = "a capture that is late or gone owes it a thaw, or the end of its backup"
    finding = Finding(kind="ecs.frozen", subject=ecs_id, owner=row.owner if row else "", found=found)
    return Case(finding, partial(repairs.pay_debt, UUID(ecs_id)))


def _backup_cases(saga: Saga, ecs: Ecs, job: Job) -> Iterator[Case]:
    if job is Job.OTHERS:
        finding = Finding(kind="ecs.backup", subject=ecs.id, owner=ecs.owner, found="another program backs it up",
                          remedy="It cannot be captured before that ends: see `virsh domjobinfo`.")  # fmt: skip
        yield Case(finding)
    if job is Job.OURS and ecs.locked_by is None:
        finding = Finding(kind="ecs.backup", subject=ecs.id, owner=ecs.owner, found="a backup job that no capture reads")
        yield Case(finding, partial(repairs.end_backup, saga, ecs.id))


def _state_cases(saga: Saga, rows: list[Ecs], seen: dict[UUID, DomainState]) -> Iterator[Case]:
    for row in rows:
        verdict = judge(row, seen.get(UUID(row.id), DomainState.ABSENT), files_of(row.id))
        if verdict is None:
            continue
        found = f"{row.state}, and {verdict.words}"
        finding = Finding(kind="ecs.state", subject=row.id, owner=row.owner, found=found, remedy=verdict.remedy)
        repair = None if verdict.cure is Cure.NONE else partial(repairs.mend_ecs, saga, row.id, verdict.cure)
        yield Case(finding, repair)


def _domain_case(saga: Saga, wish: Wish, ecs_id: str, seen: SeenDomain, row: Ecs | None) -> Case | None:
    settings = load_settings()
    finding = Finding(kind="domain.stranger", subject=ecs_id, owner=row.owner if row else "", found=f"{seen.state}, and ")
    if row is None and not seen.lies_in(settings.ecs_folder):
        places = ", ".join(sorted(map(str, seen.folders))) or "nowhere"
        return Case(_told(finding, f"unknown; its disks are in {places}", "See to it with the service that it belongs to."))
    if row is None:
        repair = partial(repairs.remove_stranger, ecs_id) if wish.remove_strangers else None
        return Case(_told(finding, "the catalog does not know it", "" if repair else UNKNOWN), repair)
    if row.state is EcsState.DELETED:
        return Case(_told(finding, "its ECS was deleted"), partial(repairs.remove_deleted, saga, ecs_id))
    if row.host != settings.host:
        return Case(_told(finding, f"its ECS is on host {row.host}", "Look which of the two is right."))
    return None


def _folder_case(saga: Saga, wish: Wish, ecs_id: str, path: Path, row: Ecs | None) -> Case | None:
    finding = Finding(kind="files.stranger", subject=ecs_id, owner=row.owner if row else "", found=f"{path}: ")
    if row is None:
        repair = partial(repairs.remove_stranger, ecs_id) if wish.remove_strangers else None
        return Case(_told(finding, "the catalog does not know its ECS", "" if repair else UNKNOWN), repair)
    if row.state is EcsState.DELETED:
        return Case(_told(finding, "its ECS was deleted"), partial(repairs.remove_deleted, saga, ecs_id))
    if row.host != load_settings().host:
        return Case(_told(finding, f"its ECS is on host {row.host}", "Look which of the two is right."))
    return None


def _told(finding: Finding, words: str, remedy: str = "") -> Finding:
    return finding.model_copy(update={"found": finding.found + words, "remedy": remedy})


def _working_folders(scratch: Path) -> Iterator[Case]:
    """Folders of operations that nobody will go on with."""
    folders = {str(operation_id): path for operation_id, path in folders_by_id(scratch).items()}
    with catalog() as session:
        operations = operation_rows(session, ids=folders)
        subjects = {each.subject_id for each in operations.values() if each.subject_id}
        deleted = deleted_images(session, ids=subjects)
    for operation_id, path in folders.items():
        operation = operations.get(operation_id)
        if words := _over(operation, deleted):
            owner = operation.account if operation else ""
            finding = Finding(kind="files.scratch", subject=operation_id, owner=owner, found=f"{path}: {words}")
            yield Case(finding, partial(repairs.remove_working_folder, path))


def _over(operation: Operation | None, deleted: set[str]) -> str:
    """Why an operation's folder is of no use any more; empty where it may be."""
    if operation is None:
        return "the catalog does not know its operation"
    if operation.state is OperationState.RUNNING:
        return ""
    if operation.state is OperationState.DONE:
        return f"its {operation.kind} is done"
    if operation.subject_id in deleted:
        return "its image was deleted"
    return f"its {operation.kind} failed and begins anew" if operation.kind in NOT_RESUMED else ""
