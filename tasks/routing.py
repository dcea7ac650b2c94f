"""Work goes where its ECS is: a run on one host hands what belongs to another to that host's own deployment and waits for it.

`<verb>@<host>` is the same flow on the host's work pool. Its caller proved the account; the run there opens the operation. How
it ended is read from the catalog and from the run's state, for hosts share no files.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Cancelling
from pydantic import BaseModel
from sqlmodel import Session

from models.ecs import get_ecs
from models.flavors import get_flavor
from models.hosts import get_host, is_silent
from models.images import get_image
from models.operation_finding import find_operation, operation_of_run, unfinished_key
from models.placement import Need, place
from models.tables import Ecs, Operation
from models.vocabulary import EcsState, OperationState
from tasks.engine.errors import HostUnavailable, ImsError, PrefectUnavailable, retold
from tasks.engine.settings import load_settings
from tasks.hosts import report_if_known
from tasks.progress import log
from tasks.requests import LaunchOptions
from tasks.resources import catalog
from tasks.runs import end_run
from tasks.sagas import Call

POLL_SECONDS = 1.0
LOOK_SECONDS = 10.0
START_SECONDS = 30.0
"""How long a run may wait for a worker before it is asked whether there is one."""
SERVER_SECONDS = 90.0
"""How long the Prefect server may be away while a run is waited for."""
FULL = ("host.full", "host.draining")
WAITING = (StateType.SCHEDULED, StateType.PENDING)


def run_where_ecs_is(call: Call, ecs_id: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Run this very flow on the ECS's host and give its result; None where that is this host. Raises what it raised there."""
    with catalog() as session:
        host = get_ecs(session, account=call.account, ecs_id=ecs_id).host
    return None if host == load_settings().host else run_there(host, call, parameters)


def run_launch_elsewhere(call: Call, image_id: str, name: str, flavor: str, options: LaunchOptions) -> dict[str, Any] | None:
    """Choose a host and launch there; None where this one is chosen. A host that was filled up meanwhile is passed over."""
    full: set[str] = set()
    while (host := _launch_host(call, image_id, flavor, options, full)) != load_settings().host:
        placed = options.model_copy(update={"host": host})
        try:
            return run_there(host, call, {"image": image_id, "name": name, "flavor": flavor, "options": placed})
        except ImsError as error:
            if options.host is not None or error.code not in FULL:
                raise
            full.add(host)
    return None


def run_there(host: str, call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Run this flow on another host for the same account. Raises HostUnavailable where nobody serves that host."""
    flow_name = str(runtime.flow_run.flow_name)
    name = f"{flow_name}@{host}"
    if runtime.deployment.name == name:
        here = load_settings().host
        raise HostUnavailable("misrouted", f"the worker of host {host} runs on {here}", remedy=f"Set IMS_HOST={host} there.")
    _require_reporting(host)
    run = _start(f"{flow_name}/{name}", {**parameters, "account": call.account})
    log.info("Host %s does it: %s", host, load_settings().run_url(run.id))
    try:
        ended = _wait(host, run)
    except BaseException:
        _abandon(run)
        raise
    return _outcome(call, host, ended)


def _launch_host(call: Call, image_id: str, flavor: str, options: LaunchOptions, full: set[str]) -> str:
    here = load_settings().host
    report_if_known()  # so that this host is never the silent one
    with catalog() as session:
        if (begun := _begun_host(session, call)) is not None:
            return begun
        image = get_image(session, account=call.account, image_id=image_id)
        memory = get_flavor(session, name=flavor).memory_mib
        need = Need(memory_mib=memory, digests=[disk.digest for disk in image.disks if disk.digest])
        wanted = options.host or (here if options.user_data_file else None)  # a file of this host's is read here
        return place(session, need=need, wanted=wanted, but=full, hold=False).name


def _begun_host(session: Session, call: Call) -> str | None:
    """Where an earlier attempt of the same request got to; this host for one that is done."""
    operation = _operation(session, call)
    if operation is None:
        return None
    if operation.state is OperationState.DONE:
        return load_settings().host
    ecs = session.get(Ecs, operation.subject_id) if operation.subject_id else None
    return ecs.host if ecs is not None and ecs.state is not EcsState.DELETED else None


def _operation(session: Session, call: Call) -> Operation | None:
    key = call.key or unfinished_key(session, account=call.account, kind=call.kind, fingerprint=call.fingerprint)
    return find_operation(session, account=call.account, kind=call.kind, key=key) if key else None


def _require_reporting(host: str) -> str:
    """The host's work pool. Raises NotFound, or HostUnavailable where it has not reported for a minute."""
    with catalog() as session:
        found = get_host(session, name=host)
    if is_silent(found):
        seen = f"{found.seen_at:%Y-%m-%d %H:%M:%S} UTC" if found.seen_at else "never"
        raise HostUnavailable("silent", f"host {host} was last heard of {seen}", remedy="Run `ims up` there, then try again.")
    return found.pool


def _start(deployment: str, parameters: Mapping[str, Any]) -> FlowRun:
    values = json.loads(json.dumps(parameters, default=_plain))
    try:
        run: Any = run_deployment(name=deployment, parameters=values, timeout=0, as_subflow=True)
    except ObjectNotFound as error:
        raise PrefectUnavailable(f"no deployment {deployment} is registered", remedy="Run `ims up` on that host.") from error
    return run  # type: ignore[no-any-return]  # run_deployment is typed for both its sync and its async use


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def _wait(host: str, run: FlowRun) -> FlowRun:
    """The run when it is over. Raises HostUnavailable once its host is silent or has no worker to start it."""
    begun = answered = looked = time.monotonic()
    with get_client(sync_client=True) as client:
        while True:
            now = time.monotonic()
            try:
                run, answered = client.read_flow_run(run.id), now
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                if now - answered > SERVER_SECONDS:
                    raise PrefectUnavailable(f"no answer on run {run.id}: {error}", remedy="Run `ims status`.") from error
            if run.state is not None and run.state.is_final():
                return run
            if now - looked > LOOK_SECONDS and answered == now:
                looked = now
                pool = _require_reporting(host)
                if now - begun > START_SECONDS:
                    _require_worker(client, pool, run)
            time.sleep(POLL_SECONDS)


def _require_worker(client: SyncPrefectClient, pool: str, run: FlowRun) -> None:
    if run.state is None or run.state.type not in WAITING:
        return
    workers = client.read_workers_for_work_pool(pool)
    if not any(worker.status is WorkerStatus.ONLINE for worker in workers):
        raise HostUnavailable("worker", f"no worker serves pool {pool}", remedy="Run `ims up` on its host, then try again.")


def _abandon(run: FlowRun) -> None:
    """Nobody waits any more: a run that has not begun never shall, one that runs is asked to end."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run.id).state
    except (httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound):
        return
    waiting = state is None or state.type in WAITING
    message = "Who asked for it does not wait any more."
    end_run(str(run.id), Cancelled(message=message) if waiting else Cancelling(message=message))


def _outcome(call: Call, host: str, run: FlowRun) -> dict[str, Any]:
    """What the operation gave, whatever became of its run afterwards; else the error as it was raised there."""
    if (result := _result(call, run.id)) is not None:
        return result
    told = run.state.message if run.state is not None and run.state.message else "no reason was given"
    if (error := retold(re.sub(r"^.*?exception: ", "", told, count=1))) is not None:
        raise error
    name = run.state.type.value.lower() if run.state is not None else "gone"
    raise HostUnavailable("run", f"the run on host {host} is {name}: {told}", remedy="The same command goes on.")


def _result(call: Call, run_id: UUID) -> dict[str, Any] | None:
    """None where the run left its operation undone."""
    with catalog() as session:
        operation = operation_of_run(session, account=call.account, flow_run_id=str(run_id)) or _operation(session, call)
    return operation.result if operation is not None and operation.state is OperationState.DONE else None
