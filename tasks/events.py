"""The service's own Prefect events, which automations may wait for. What they are called and carry is in docs/events.md."""

from __future__ import annotations

from prefect.events import emit_event


def tell(event: str, *, kind: str, subject: str, name: str, **payload: object) -> None:
    """Emit `ims.<event>` about a subject; times and enumerations go as text."""
    emit_event(
        event=f"ims.{event}",
        resource={"prefect.resource.id": f"ims.{kind}.{subject}", "prefect.resource.name": name},
        payload={
            f"{kind}_id": subject,
            "name": name,
            **{key: value if _is_plain(value) else str(value) for key, value in payload.items()},
        },
    )


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (str, int, float, bool, list, dict)
