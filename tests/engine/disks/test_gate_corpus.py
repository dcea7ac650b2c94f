"""Files that other programs made: the gate agrees with what is known of each. Skipped where the samples are not there."""

from __future__ import annotations

import bz2
import csv
from pathlib import Path

import pytest
from forge_bytes import finding, verdict

_CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"
_NEEDS_REPLAY = "qemu/iotest-dirtylog-10G-4M.vhdx.bz2"
"""Listed as refused because QEMU does not open it read-only; the gate accepts it for a replay."""


def _rows(*, refused: bool) -> list[dict[str, str]]:
    index = _CORPUS / "INDEX.tsv"
    if not index.exists():
        return []
    with index.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["path"] != _NEEDS_REPLAY]
    return [row for row in rows if row["sha256_raw"].startswith("rejected") == refused]


def _content(name: str) -> bytes:
    data = (_CORPUS / name).read_bytes()
    return bz2.decompress(data) if name.endswith(".bz2") else data


@pytest.mark.parametrize("row", _rows(refused=False), ids=lambda row: row["path"])
def test_gate_corpus_accepted_with_its_size(row: dict[str, str]) -> None:
    expected = int(row["virtual_size"].split()[0])
    assert finding(_content(row["path"])).virtual_size == expected


@pytest.mark.parametrize("row", _rows(refused=True), ids=lambda row: row["path"])
def test_gate_corpus_refused(row: dict[str, str]) -> None:
    reason = "differencing" if "differencing" in row["sha256_raw"] else "corrupt"
    assert verdict(_content(row["path"]), depth="headers") == reason


@pytest.mark.skipif(not _CORPUS.exists(), reason="the samples are not here")
def test_gate_corpus_dirty_log_needs_replay() -> None:
    assert finding(_content(_NEEDS_REPLAY)).needs_replay
