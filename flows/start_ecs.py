"""Start a stopped ECS from its own disk. Needs this host's libvirt, and its NBD server unless the ECS is standalone."""

from __future__ import annotations

from prefect import flow

from tasks import guests, routing
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga
from tasks.views import EcsView


@flow(name="start-ecs", flow_run_name="start {ecs} for {account}", description=__doc__)
def start_ecs(ecs: Identifier, account: AccountName = "admin") -> EcsView:
    """Start a stopped ECS. Raises NotFound for one that is not the account's."""
    ecs_id = guests.ecs_id_of(account, ecs)
    call = Call(kind="start-ecs", account=account, facts={"ecs": ecs_id}, locks=ecs_id)
    if (there := routing.run_where_ecs_is(call, ecs_id, {"ecs": ecs_id})) is not None:
        return EcsView.model_validate(there)
    with saga(call) as held:
        return guests.start_guest(held, ecs_id)
