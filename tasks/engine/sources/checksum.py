"""The checksum a person gives with a file, verified before anything else reads the file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from tasks.engine.errors import RequestRefused, SourceRefused

BLOCK = 4 << 20
CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


def parse_checksum(text: str) -> str:
    """Lower-case `sha256:<64 hex>`. Raises RequestRefused('checksum')."""
    folded = text.strip().lower()
    if not CHECKSUM.fullmatch(folded):
        raise RequestRefused("checksum", "a checksum is sha256: and 64 hex digits", remedy="Run sha256sum on the file.")
    return folded


def verify_checksum(path: Path, expected: str, *, on_bytes: Callable[[int], None] | None = None) -> None:
    """Raise SourceRefused('checksum') unless the file's SHA-256 is `expected`."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            if on_bytes:
                on_bytes(done)
    if (found := f"sha256:{digest.hexdigest()}") != expected:
        raise SourceRefused(
            "checksum",
            f"the file's checksum is {found}, not {expected}",
            remedy="Fetch the file again or correct the sum.",
        )
