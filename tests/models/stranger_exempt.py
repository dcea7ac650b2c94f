"""Queries of the catalog that no account asks about a thing of its choice, each with the reason. No tests here."""

from __future__ import annotations

_ROW = "takes a row that a run loaded: whose it is was decided when its operation began"
_LEASE = "takes a lease, which a run alone holds"
_OPERATOR = "for the operator's schedule, reconciliation or commands, which ask for the role first"
_CONTENT = "about a disk's content by its digest, for a run that holds that disk; no account is named"
_HOLD = "holds a row and tells nothing of it, not even whether it is there"
_RUN = "for a run that found the subject as its account's before"

EXEMPT: dict[str, str] = {
    **dict.fromkeys(
        (
            "ecs.delete_ecs",
            "ecs.detach_disk",
            "ecs.fail_ecs",
            "ecs.mark_ready",
            "ecs.mark_standalone",
            "ecs.move_ecs",
            "ecs.record_checkpoint",
            "gate.record_passage",
            "image_changes.activate_image",
            "image_changes.fail_image",
            "image_changes.forget_disks",
            "image_changes.record_boot",
            "image_changes.record_capture",
            "image_changes.record_disk",
            "image_changes.record_generalized",
            "image_changes.record_guest",
            "image_changes.requeue_image",
            "quotas.settle_bytes",
            "search.index_listing",
            "sharing.expire_member",
            "states.transition",
            "versions.begin_scan",
            "versions.end_scan",
        ),
        _ROW,
    ),
    "images.hold_image": _HOLD,
    "placement.place": "chooses among hosts, which are nobody's; what it needs to know of an image, the caller has seen",
    **dict.fromkeys((f"operations.{name}" for name in ("bind_subject", "fail", "finish", "heartbeat", "record_step")), _LEASE),
    **dict.fromkeys(
        (
            "accounts.change_account",
            "accounts.create_account",
            "accounts.list_accounts",
            "ecs.ecs_on_host",
            "ecs.referenced_digests",
            "hosts.add_host",
            "hosts.drain_host",
            "hosts.ensure_host",
            "hosts.get_host",
            "hosts.list_hosts",
            "hosts.living_there",
            "hosts.reachable_uri",
            "hosts.record_report",
            "hosts.remove_host",
            "hosts.resume_host",
            "locks.stale_locks",
            "operations.running_operations",
            "operations.take_abandoned",
            "placement.claims_of",
            "reconciliation.deleted_images",
            "reconciliation.ecs_in_use",
            "reconciliation.ecs_rows",
            "reconciliation.hold_operation",
            "reconciliation.operation_rows",
            "reconciliation.orphaned_images",
            "sharing.expired_members",
            "versions.expire_review",
            "versions.offered_versions",
            "versions.overdue_reviews",
        ),
        _OPERATOR,
    ),
    **dict.fromkeys(
        ("gate.keep_content", "gate.known_content", "known.known_guest", "known.stored_bytes_of"),
        _CONTENT,
    ),
    **dict.fromkeys(
        (
            "gate.latest_scan",
            "locks.ecs_locked_by",
            "locks.lock_ecs",
            "locks.unlock_ecs",
            "operations.operation_of_run",
            "versions.locked_version",
            "versions.note_review_run",
            "versions.versions_of_image",
        ),
        _RUN,
    ),
    "flavors.get_flavor": "flavors are everybody's",
    "flavors.list_flavors": "flavors are everybody's",
    "keys.add_key": "the account's row is held by rotate_key or create_account, which alone call it",
    "keys.rotate_key": "makes a key of the account that is named, which the command proves or asks an operator for",
    "paging.find_places": "reads the queries that it is given",
    "quotas.lock_account": "holds the row of the account that acts, or is named by an operator",
    "search.matches": "makes conditions; what they find is asked by list_listings",
    "trail.write_audit": "writes what its caller did",
}
"""Functions that no account asks about a thing of its choice, each with the reason."""
