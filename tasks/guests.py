"""Steps on ECSs: queue one, build its guest, wait for it, stop, start, delete. What a guest is, is in `tasks.engine.guests`."""

from __future__ import annotations

import time
from uuid import UUID

from prefect import task
from sqlmodel import Session

from models.ecs import MAX_ECS_DISKS, NewEcs, Readiness, create_ecs, delete_ecs, get_ecs, mark_ready, mark_standalone, move_ecs
from models.flavors import get_flavor
from models.images import get_image
from models.operations import bind_subject, heartbeat
from models.placement import Need, place
from models.tables import Ecs, EcsDisk, Image
from models.vocabulary import BootMode, BootProof, EcsState
from tasks.engine.errors import NotFound, RequestRefused, StateRefused
from tasks.engine.guests import domain
from tasks.engine.guests.backing import Backing
from tasks.engine.guests.domain import DomainState
from tasks.engine.guests.domain_xml import DiskSpec, DomainSpec
from tasks.engine.guests.overlay import EcsFiles, create_overlay, ecs_files, make_folder, remove_folder
from tasks.engine.guests.ready import wait_ready
from tasks.engine.guests.seed import Seed, check_seed, hostname_of, write_seed
from tasks.engine.guests.standalone import make_standalone
from tasks.engine.settings import load_settings
from tasks.exports import causes_told, fill, require_server
from tasks.finding import resolve_ecs
from tasks.hosts import report_if_known
from tasks.policies import ONCE, RETRIED
from tasks.progress import Progress
from tasks.requests import LaunchOptions
from tasks.resources import catalog, hypervisor, require_account
from tasks.sagas import Saga
from tasks.verification import accelerator
from tasks.views import EcsView, ecs_view

UNPROVED_SECONDS = 90
"""How long a launch waits for a guest whose image never showed an agent or a login."""
STANDALONE_SECONDS = 6 * 3600


@task(**ONCE, task_run_name="queue {name}")
def queue_ecs(saga: Saga, image_id: str, name: str, flavor: str, options: LaunchOptions) -> str:
    """Check visibility, limits and this host's room and make the ECS's row, or take up an earlier attempt's. Returns its id."""
    check_seed(_seed(UUID(int=0), name, options))
    report_if_known()
    with catalog(write=True) as session:
        ecs = session.get(Ecs, saga.subject) if saga.subject else None
        if ecs is not None and ecs.state is not EcsState.DELETED:
            if ecs.state is EcsState.ERROR:
                _claim_here(session, saga.account, image_id, flavor)
                move_ecs(session, ecs=ecs, new=EcsState.BUILDING, by=saga.actor)
        else:
            host = _claim_here(session, saga.account, image_id, flavor)
            new = NewEcs(
                name=name,
                image_id=image_id,
                host=host,
                flavor=flavor,
                disk_gib=options.disk_gib,
                data_disks_gib=options.data_disks_gib,
            )
            ecs = create_ecs(session, new=new, by=saga.actor)
            bind_subject(session, lease=saga.held, subject_id=ecs.id)
        saga.about("ecs", ecs.id)
        return ecs.id


def _claim_here(session: Session, account: str, image_id: str, flavor: str) -> str:
    """This host's name, once it has room for the ECS whose row the same transaction makes."""
    get_image(session, account=account, image_id=image_id)  # what is not seen is refused before anything is told of hosts
    need = Need(memory_mib=get_flavor(session, name=flavor).memory_mib)
    return place(session, need=need, wanted=load_settings().host).name


@task(**RETRIED, task_run_name="build guest")
def build_guest(saga: Saga, ecs_id: str, options: LaunchOptions) -> str:
    """Overlays over the image's exports, seed, domain; the guest runs when this returns. Returns the accelerator."""
    require_server()
    spec, ecs = _spec(saga.account, ecs_id)
    with hypervisor() as host, causes_told(spec.disks):
        if ecs.state is not EcsState.BUILDING:  # an earlier attempt got further; its disks are the owner's by now
            domain.start(host, spec)
        elif domain.state(host, UUID(ecs_id)) not in (DomainState.RUNNING, DomainState.IO_ERROR):
            domain.delete(host, UUID(ecs_id))
            _make_files(spec, ecs, options)
            domain.launch(host, spec)
    return accelerator().kind


def _make_files(spec: DomainSpec, ecs: Ecs, options: LaunchOptions) -> None:
    """New disks and a seed, in place of what an attempt left that never got its guest going."""
    files = files_of(ecs.id)
    make_folder(files)
    for disk, row in zip(spec.disks, ecs.disks, strict=True):
        create_overlay(disk.overlay, backing=disk.backing, virtual_size=row.size_bytes)
    write_seed(files.seed, _seed(UUID(ecs.id), ecs.name, options))


@task(**RETRIED, task_run_name="wait until ready")
def wait_for_guest(saga: Saga, ecs_id: str) -> BootProof:
    """Until the agent answers or the console asks for a login; NONE where the guest runs and shows neither."""
    with catalog() as session:
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        image = session.get(Image, ecs.image_id)
        proved = image is not None and image.boot_proof in (BootProof.AGENT, BootProof.LOGIN)
    limit = load_settings().boot_timeout_seconds
    with hypervisor() as host:
        ready = wait_ready(
            host,
            UUID(ecs_id),
            console=files_of(ecs_id).console,
            timeout_seconds=limit if proved else min(limit, UNPROVED_SECONDS),
        )
    return BootProof(ready.by)


@task(**RETRIED, task_run_name="activate ECS")
def activate_ecs(saga: Saga, ecs_id: str, kind: str, ready_by: BootProof) -> EcsView:
    """Note that the ECS runs, and have the rest of its disks fetched in the background."""
    with catalog(write=True) as session:
        heartbeat(session, lease=saga.held)
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        if ecs.state is EcsState.BUILDING:
            seconds = round(time.monotonic() - saga.begun, 1)
            readiness = Readiness(ready_by=ready_by, seconds_to_ready=seconds, accelerator=kind)
            mark_ready(session, ecs=ecs, readiness=readiness, by=saga.actor)
        for disk in ecs.disks:
            fill(disk)
        return done(saga, ecs)


@task(**RETRIED, task_run_name="copy base")
def pull_base(saga: Saga, ecs_id: str) -> EcsView:
    """Copy the whole base into the ECS's own files, while it runs."""
    with hypervisor() as host:
        progress = Progress("Copy base")
        make_standalone(host, UUID(ecs_id), progress=progress, timeout_seconds=STANDALONE_SECONDS)
    with catalog(write=True) as session:
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        mark_standalone(session, ecs=ecs)
        return done(saga, ecs)


@task(**RETRIED, task_run_name="stop ECS")
def stop_guest(saga: Saga, ecs_id: str) -> EcsView:
    """Ask the guest to shut down, cut its power where it does not, and note it."""
    with catalog() as session:
        require_built(own_here(session, saga.account, ecs_id))
    with hypervisor() as host:
        domain.stop(host, UUID(ecs_id))
    return _move(saga, ecs_id, EcsState.STOPPED)


@task(**RETRIED, task_run_name="start ECS")
def start_guest(saga: Saga, ecs_id: str) -> EcsView:
    """Start a stopped ECS from its own files, or one whose host was restarted."""
    spec, ecs = _spec(saga.account, ecs_id)
    require_built(ecs)
    if not ecs.standalone:
        require_server()
    with hypervisor() as host, causes_told(spec.disks):
        domain.start(host, spec)
    return _move(saga, ecs_id, EcsState.ACTIVE)


@task(**RETRIED, task_run_name="delete ECS")
def delete_guest(saga: Saga, ecs_id: str) -> EcsView:
    """End the guest, remove its files, leave the row's tombstone."""
    with catalog() as session:
        own_here(session, saga.account, ecs_id)
    discard_guest(ecs_id)
    with catalog(write=True) as session:
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        delete_ecs(session, ecs=ecs, by=saga.actor)
        return done(saga, ecs)


def discard_guest(ecs_id: str) -> None:
    """Remove the domain and the files of an ECS; what is gone already is no error."""
    with hypervisor() as host:
        domain.delete(host, UUID(ecs_id))
    remove_folder(files_of(ecs_id))


def undo_launch(saga: Saga, _error: BaseException) -> None:
    """A launch that failed leaves its row with the error and nothing on the host; one that got as far as active stays."""
    if saga.subject is None:
        return
    with catalog() as session:
        building = get_ecs(session, account=saga.account, ecs_id=saga.subject).state is EcsState.BUILDING
    if building:
        discard_guest(saga.subject)


def ecs_id_of(account: str, wanted: str) -> str:
    """The id of an account's ECS given by id or name, once this process has proved the account."""
    with catalog() as session:
        return resolve_ecs(session, account=require_account(session, account=account), wanted=wanted)


def files_of(ecs_id: str) -> EcsFiles:
    """The ECS's files on this host."""
    return ecs_files(load_settings().ecs_folder, UUID(ecs_id))


def require_built(ecs: Ecs) -> None:
    """Only what was launched whole may be stopped, started, captured or given a disk."""
    if ecs.state not in (EcsState.ACTIVE, EcsState.STOPPED):
        raise StateRefused("ecs", "state", f"ECS {ecs.id} is {ecs.state}", remedy="Wait for its launch, or delete it.")


def own_here(session: Session, account: str, ecs_id: str) -> Ecs:
    """The account's ECS, which must be on this host."""
    ecs = get_ecs(session, account=account, ecs_id=ecs_id)
    if ecs.host != load_settings().host:
        raise StateRefused("ecs", "elsewhere", f"ECS {ecs_id} is on host {ecs.host}", remedy="Run it there.")
    return ecs


def _move(saga: Saga, ecs_id: str, new: EcsState) -> EcsView:
    with catalog(write=True) as session:
        ecs = get_ecs(session, account=saga.account, ecs_id=ecs_id)
        if ecs.state is not new:
            move_ecs(session, ecs=ecs, new=new, by=saga.actor)
        return done(saga, ecs)


def done(saga: Saga, ecs: Ecs) -> EcsView:
    """The ECS as the run's result; the lock that the run itself holds ends with it."""
    view = ecs_view(ecs)
    if view.locked_by == saga.operation_id:
        view.locked_by = None
    saga.result = view.model_dump(mode="json")
    return view


def _seed(instance: UUID, name: str, options: LaunchOptions) -> Seed:
    user_data = options.user_data
    if options.user_data_file is not None:
        try:
            user_data = options.user_data_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestRefused("user_data", f"the user-data file cannot be read: {error}") from error
    hostname = options.hostname or hostname_of(name)
    return Seed(instance_id=instance, hostname=hostname, ssh_keys=options.ssh_keys, user_data=user_data)


def _spec(account: str, ecs_id: str) -> tuple[DomainSpec, Ecs]:
    """The ECS's domain as its row describes it."""
    with catalog() as session:
        ecs = own_here(session, account, ecs_id)
        flavor = get_flavor(session, name=ecs.flavor)
        image = session.get(Image, ecs.image_id)
        if image is None:
            raise NotFound("image", ecs.image_id)
    files = files_of(ecs_id)
    uefi = image.boot_mode is BootMode.UEFI
    spec = DomainSpec(
        ecs_id=UUID(ecs_id),
        disks=[disk_spec(files, disk, standalone=ecs.standalone) for disk in ecs.disks],
        console=files.console,
        kvm=accelerator().kind == "kvm",
        seed=files.seed,
        title=ecs.name,
        memory_mib=flavor.memory_mib,
        vcpus=flavor.vcpus,
        boot_mode="uefi" if uefi else "bios",
        nvram=files.folder / "nvram.fd" if uefi else None,
        spare_ports=MAX_ECS_DISKS - len(ecs.disks),
    )
    return spec, ecs


def disk_spec(files: EcsFiles, disk: EcsDisk, *, standalone: bool) -> DiskSpec:
    """One disk of an ECS as libvirt is told of it."""
    overlay = files.overlay(disk.index)
    if standalone or disk.base_digest is None:
        return DiskSpec(overlay=overlay, backing=None)
    backing = Backing(socket=load_settings().exports_socket, export=disk.base_digest, virtual_size=disk.base_size)
    return DiskSpec(overlay=overlay, backing=backing)
