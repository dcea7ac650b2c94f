"""Answers as a person reads them in a terminal: a table for a list, a lineage as a tree, lines for one thing. `--json` does not
come here.
"""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "images": ("id", "name", "type", "state", "format", "boot_proof", "bytes_stored", "created_at"),
    "ecs": ("id", "name", "state", "host", "image_id", "flavor", "accelerator", "seconds_to_ready", "created_at"),
    "hosts": ("name", "state", "silent", "ecs", "memory_mib", "room_mib", "accelerator", "cached", "pool", "seen_at"),
    "series": ("series", "ecs", "ecs_id", "images", "newest", "oldest", "bytes_stored"),
    "accounts": ("name", "operator", "reviewer", "max_images", "max_bytes", "created_at"),
    "flavors": ("name", "vcpus", "memory_mib"),
    "findings": ("kind", "subject", "owner", "action", "found", "remedy"),
    "members": ("account", "state", "expires_at", "digest"),
    "offers": ("image_id", "name", "owner", "state", "expires_at", "digest"),
    "keys": ("id", "created_at", "expires_at"),
    "scans": ("id", "purpose", "passed", "at"),
    "listings": ("id", "title", "version", "owner", "system", "categories", "subscribed", "image_id"),
    "subscriptions": ("title", "listing_id", "licence_digest", "accepted_at"),
    "reviews": ("id", "title", "version", "owner", "review_until", "warnings"),
    "inbox": ("key", "size", "state", "image_id", "code", "modified"),
    "audit": ("at", "who", "kind", "subject_id", "old", "new"),
}


def as_text(answer: dict[str, Any]) -> str:
    """The answer's one list as a table, a console or report as it is, anything else as `name: value` lines."""
    if "report" in answer and "holders" in answer:
        return str(answer["report"])
    if isinstance(answer.get("host"), dict):
        return _lines(answer["host"]) + "\n\n" + _table(COLUMNS["ecs"], answer["ecs"])
    for name, columns in COLUMNS.items():
        if isinstance(answer.get(name), list):
            more = f"\nMore: --after {answer['after']}" if answer.get("after") else ""
            return _table(columns, answer[name]) + more
    if "services" in answer:
        rows = [{"service": name, **service} for name, service in answer["services"].items()]
        rest = {name: value for name, value in answer.items() if name != "services" and value}
        return _table(("service", "state", "pid", "address", "note"), rows) + "\n\n" + _lines(rest)
    if isinstance(answer.get("lineage"), dict):
        from tasks.trees import tree_text  # reads the catalog's words, which other answers do not need

        return tree_text(answer["lineage"], asked=answer["id"])
    if "console" in answer:
        return str(answer["console"])
    if "metrics" in answer:
        return str(answer["metrics"]).removesuffix("\n")
    return _lines({name: value for name, value in answer.items() if value not in (None, "", [])})


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[_short(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def _lines(answer: dict[str, Any]) -> str:
    return "\n".join(_entry(name, value) for name, value in answer.items())


def _entry(name: str, value: Any) -> str:
    label = name.replace("_", " ")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items = (", ".join(f"{key} {_short(item[key])}" for key in item) for item in value)
        return "\n".join(f"{label} {place}: {text}" for place, text in enumerate(items))
    if isinstance(value, list):
        return f"{label}: {', '.join(str(item) for item in value)}"
    return f"{label}: {_short(value)}"


def _short(value: Any) -> str:
    return "" if value is None else str(value)
