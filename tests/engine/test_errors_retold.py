"""An error that crossed from one process to another as text is the same to whoever asked."""

from __future__ import annotations

import pytest

from flows.cli import exit_code
from tasks.engine.errors import (
    DiskRefused,
    EcsBusy,
    HostUnavailable,
    ImsError,
    NotFound,
    OperationBusy,
    StateRefused,
    Unavailable,
    retold,
)

ERRORS = [
    StateRefused("host", "full", "1024 MiB are needed"),
    NotFound("image", "web: one"),
    DiskRefused("backing_file", "it has one", remedy="Flatten it."),
    HostUnavailable("libvirt", "no answer: a: b: c"),
    OperationBusy("another runs it"),
    EcsBusy("locked"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_error_keeps_code_words_and_exit_code(error: ImsError) -> None:
    told = retold(f"{type(error).__name__}: {error}")
    assert told is not None
    assert (told.code, told.message, exit_code(told)) == (error.code, error.message, exit_code(error))
    assert isinstance(told, Unavailable) == isinstance(error, Unavailable)


@pytest.mark.parametrize(
    "text", ["", "ValueError: x: y", "Path: a: b", "StateRefused", "StateRefused: no code here", "re: a: b"]
)
def test_other_words_are_none_of_ours(text: str) -> None:
    assert retold(text) is None
