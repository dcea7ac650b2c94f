"""What a sidecar may say, and the import that follows from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.engine.blobs.memory import MemoryObjects
from tasks.engine.errors import RequestRefused
from tasks.requests import ImportOptions
from tasks.sidecars import MAX_SIDECAR, Sidecar, import_parameters, read_sidecar

SUM = f"sha256:{'0' * 64}"


def read(body: bytes) -> Sidecar:
    bucket = MemoryObjects()
    bucket.put("alice/disk.raw.json", body)
    return read_sidecar(bucket, "alice/disk.raw")


def parameters(sidecar: Sidecar, **values: Any) -> dict[str, Any]:
    return import_parameters(sidecar, **{"key": "a/disk.raw", "account": "alice", "version": "v", "etag": "e", **values})


def test_sidecar_says_how_it_is_imported() -> None:
    said = {"name": "web", "checksum": SUM, "format": "raw", "verify": "none", "tags": ["x"], "description": "d"}
    asked = parameters(read(json.dumps({**said, "min_memory_mib": 64}).encode()))
    options = ImportOptions.model_validate(asked.pop("options"))
    assert asked == {
        "source": "inbox:a/disk.raw",
        "name": "web",
        "account": "alice",
        "format": "raw",
        "checksum": SUM,
        "verify": "none",
    }
    assert (options.tags, options.description, options.min_memory_mib, options.etag) == (["x"], "d", 64, "e")


def test_empty_sidecar_leaves_everything_as_without_one() -> None:
    assert parameters(read(b"{}")) == parameters(Sidecar())
    assert parameters(Sidecar())["name"] == "disk"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"surprise": 1}', "surprise"),
        (b'{"account": "bob"}', "account"),
        (b'{"idempotency_key": "x"}', "idempotency_key"),
        (b'{"etag": "x"}', "etag"),
        (b'{"name": " x"}', "name"),
        (b'{"name": 1}', "name"),
        (b'{"format": "iso"}', "format"),
        (b'{"verify": "maybe"}', "verify"),
        (b'{"tags": "x"}', "tags"),
        (b'{"description": "<script>"}', "description"),
        (b"", "sidecar"),
        (b"[]", "sidecar"),
        (b"\xff\xfe", "sidecar"),
        (b"[" * 60_000, "sidecar"),
        (b'{"name": "x"}' + b" " * MAX_SIDECAR, "larger"),
    ],
)
def test_sidecar_that_cannot_be_is_refused_by_its_field(body: bytes, field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        read(body)
    assert refused.value.code == "request.sidecar"
    assert field in refused.value.message
    assert refused.value.remedy


def test_key_of_the_import_follows_from_the_version_and_what_is_said() -> None:
    keys = {
        parameters(Sidecar())["options"]["idempotency_key"],
        parameters(Sidecar(), version="w")["options"]["idempotency_key"],
        parameters(Sidecar(name="web"))["options"]["idempotency_key"],
    }
    assert len(keys) == 3
    assert parameters(Sidecar())["options"]["idempotency_key"] in keys
