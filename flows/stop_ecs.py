"""Stop an ECS: its guest is asked to shut down, and its power is cut where it does not. Its disk stays."""

from __future__ import annotations

from prefect import flow

from tasks import guests, routing
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga
from tasks.views import EcsView


@flow(name="stop-ecs", flow_run_name="stop {ecs} for {account}", description=__doc__)
def stop_ecs(ecs: Identifier, account: AccountName = "admin") -> EcsView:
    """Stop an ECS. Raises NotFound for one that is not the account's."""
    ecs_id = guests.ecs_id_of(account, ecs)
    call = Call(kind="stop-ecs", account=account, facts={"ecs": ecs_id}, locks=ecs_id)
    if (there := routing.run_where_ecs_is(call, ecs_id, {"ecs": ecs_id})) is not None:
        return EcsView.model_validate(there)
    with saga(call) as held:
        return guests.stop_guest(held, ecs_id)
