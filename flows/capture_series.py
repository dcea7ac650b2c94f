"""Capture a series: each named ECS becomes an image of the series, of which the last ones are kept.

The deployment runs it every night. Deleting is a dry run until `apply` is set. An ECS that cannot be captured stops no other,
its series is left as it is, and the run fails after its report. A retry of the run continues the captures that it began.
Needs the store, the catalog, and the host that the ECSs are on.
"""

from __future__ import annotations

from prefect import flow

from flows.capture_ecs import capture_ecs
from tasks import series as steps
from tasks.requests import AccountName, Apply, EcsNames, Generalize, Keep, Name, Verify
from tasks.sagas import Call, saga
from tasks.series_report import Rule, SeriesView


@flow(name="capture-series", flow_run_name="capture series {series} for {account}", description=__doc__)
def capture_series(
    ecs: EcsNames = [],  # noqa: B006  # never changed, and the form shows it
    series: Name = "nightly",
    keep: Keep = 7,
    apply: Apply = False,
    account: AccountName = "admin",
    generalize: Generalize = True,
    verify: Verify = "boot",
) -> SeriesView:
    """Capture and thin. Raises CaptureRefused where one of the ECSs was not captured."""
    rule = Rule(series=series, keep=keep, apply=apply)
    facts = {"ecs": ecs, **rule.model_dump()}
    with saga(Call(kind="capture-series", account=account, key=steps.run_key(), facts=facts)) as held:
        if held.result is not None:
            return SeriesView.model_validate(held.result)
        captures = []
        for member in steps.find_members(held, ecs):
            state = capture_ecs(
                ecs=member.ecs_id or member.asked,
                name=member.image_name,
                account=account,
                generalize=generalize,
                verify=verify,
                options=steps.capture_options(held, member, series),
                return_state=True,
            )
            captures.append(steps.capture_of(member, state))
        thinned = [steps.thin(held, capture, rule) for capture in captures]
        view = steps.report_series(held, rule, captures, thinned)
        steps.require_captured(captures)
    return view
