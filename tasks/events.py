"""The service's own Prefect events, which automations may wait for. What they are called and carry is in docs/events.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prefect.events import emit_event

from models.tables import Ecs, Image

Related = Mapping[str, str]
"""A related resource's labels."""


def tell(event: str, *, kind: str, subject: str, name: str, related: Sequence[Related] = (), **payload: object) -> None:
    """Emit `ims.<event>` about a subject; times and enumerations go as text. A trigger may match what is `related`."""
    emit_event(
        event=f"ims.{event}",
        resource={"prefect.resource.id": f"ims.{kind}.{subject}", "prefect.resource.name": name},
        payload={
            f"{kind}_id": subject,
            "name": name,
            **{key: value if _is_plain(value) else str(value) for key, value in payload.items()},
        },
        related=[dict(each) for each in related],
    )


def of_account(account: str) -> Related:
    """The account whose subject it is, for a trigger's `match_related`."""
    return {"prefect.resource.id": f"ims.account.{account}", "prefect.resource.role": "owner"}


def of_tags(tags: Iterable[str]) -> list[Related]:
    """The subject's tags, each a resource of its own: payloads cannot be matched by a trigger."""
    return [{"prefect.resource.id": f"ims.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (str, int, float, bool, list, dict)


def tell_failed(subject: Image | Ecs, *, code: str, message: str) -> None:
    """Emit `ims.image.error` or `ims.ecs.error` about what a run was making."""
    facts: dict[str, object] = {"account": subject.owner, "state": subject.state.value, "code": code, "message": message}
    kind, tags = "ecs", list[str]()
    if isinstance(subject, Image):
        kind, tags = "image", subject.tags
        facts["tags"] = tags
    related = [of_account(subject.owner), *of_tags(tags)]
    tell(f"{kind}.error", kind=kind, subject=subject.id, name=subject.name, related=related, **facts)
