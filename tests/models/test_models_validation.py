"""Rules for typed values; no database."""

from __future__ import annotations

import pickle

import pytest

import models.exceptions as events
from models.exceptions import CatalogError, FieldInvalid, NameInvalid
from models.validation import check_checksum, check_name, check_properties, check_tags, check_text, storable


@pytest.mark.parametrize("name", ["a", "web 1.0_rc-2", "-", ".", "a" * 128])
def test_good_name_passes(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a" * 129, "a/b", "a\n", "naïve", "a\x00", "<a>", "a\u200b"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        check_name(name)


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "<b", "b>", "\x7f", "\u2028", "\udcff", "a" * 11])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(FieldInvalid):
        check_text(text, field="description", limit=10)


@pytest.mark.parametrize("tags", [[""], [" "], ["a\nb"], ["t" * 65], [str(number) for number in range(51)]])
def test_bad_tags_are_refused(tags: list[str]) -> None:
    with pytest.raises(FieldInvalid):
        check_tags(tags)


def test_fifty_tags_pass() -> None:
    assert len(check_tags([str(number) for number in range(50)])) == 50


@pytest.mark.parametrize(
    "properties",
    [{"": "a"}, {"a b": "c"}, {"k" * 65: "v"}, {"k": "v" * 256}, {str(number): "v" for number in range(129)}],
)
def test_bad_properties_are_refused(properties: dict[str, str]) -> None:
    with pytest.raises(FieldInvalid):
        check_properties(properties)


@pytest.mark.parametrize("checksum", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha1:" + "a" * 40])
def test_bad_checksum_is_refused(checksum: str) -> None:
    with pytest.raises(FieldInvalid):
        check_checksum(checksum)


def test_good_checksum_or_none_passes() -> None:
    assert check_checksum("sha256:" + "0a" * 32) == "sha256:" + "0a" * 32
    assert check_checksum(None) is None


def test_any_message_becomes_storable() -> None:
    assert storable("half \udcff, nul \x00, ä") == "half ?, nul \ufffd, ä"


@pytest.mark.parametrize(
    "event",
    [
        events.NotVisible("image", "i"),
        events.QuotaReached("images", 10, 10),
        events.TransitionRefused("image", "i", "a", "b"),
        events.OperationBusy("o", "process 1"),
        events.FieldInvalid("name", "short"),
        events.CatalogUnreachable("gone"),
    ],
)
def test_event_survives_pickling(event: CatalogError) -> None:
    again = pickle.loads(pickle.dumps(event))
    assert (type(again), str(again), vars(again)) == (type(event), str(event), vars(event))
