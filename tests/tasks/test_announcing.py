"""Which failures of an import from the inbox its writer is told of, and which are left to later sweeps."""

from __future__ import annotations

import pytest

from tasks.announcing import MAX_DEFECTS, stands
from tasks.engine.errors import (
    DiskRefused,
    HostUnavailable,
    OperationBusy,
    QuotaExceeded,
    RequestRefused,
    StateRefused,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    "error",
    [
        DiskRefused("backing_file", "no"),
        QuotaExceeded("images", "full"),
        RequestRefused("sidecar", "no"),
        StateRefused("image", "state", "no"),
    ],
)
def test_refusal_is_told_at_once(error: Exception) -> None:
    assert stands(error, attempts=1)


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("away"),
        HostUnavailable("disk_full", "full"),
        OperationBusy("held"),
        StateRefused("store", "bucket", "the operator forgot it"),
        KeyboardInterrupt(),
        SystemExit(143),
    ],
)
def test_what_may_pass_or_is_the_operators_is_never_told(error: BaseException) -> None:
    assert not stands(error, attempts=100)


def test_defect_is_told_when_it_keeps_coming() -> None:
    assert [stands(TypeError("x"), attempts=number) for number in (1, MAX_DEFECTS - 1, MAX_DEFECTS)] == [False, False, True]
