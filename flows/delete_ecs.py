"""Delete an ECS: its guest ends at once and its files are removed. The image it came from stays."""

from __future__ import annotations

from prefect import flow

from tasks import guests, routing
from tasks.requests import AccountName, Identifier
from tasks.sagas import Call, saga
from tasks.views import EcsView


@flow(name="delete-ecs", flow_run_name="delete {ecs} for {account}", description=__doc__)
def delete_ecs(ecs: Identifier, account: AccountName = "admin") -> EcsView:
    """Delete an ECS for good. Raises NotFound for one that is not the account's."""
    ecs_id = guests.ecs_id_of(account, ecs)
    call = Call(kind="delete-ecs", account=account, facts={"ecs": ecs_id}, locks=ecs_id)
    if (there := routing.run_where_ecs_is(call, ecs_id, {"ecs": ecs_id})) is not None:
        return EcsView.model_validate(there)
    with saga(call) as held:
        return guests.delete_guest(held, ecs_id)
