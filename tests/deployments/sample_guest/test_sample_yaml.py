"""The guest's reader of cloud-config files, run by the guest's own awk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.sample_guest.root import OVERLAY

Flatten = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def flatten(busybox: Path) -> Flatten:
    def run(text: str) -> dict[str, str]:
        command = [busybox, "awk", "-f", OVERLAY / "usr/lib/sample-guest/yaml.awk"]
        lines = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.splitlines()
        return dict(tuple(line.split("\t", 1)) for line in lines)

    return run


def test_scalars_lose_quotes_and_comments(flatten: Flatten) -> None:
    text = "#cloud-config\na: plain # note\nb: 'it''s'\nc: \"x # \\\"y\\\"\"\nd: ~\ne: k#v\n"
    assert flatten(text) == {"a": "plain", "b": "it's", "c": 'x # "y"', "d": "", "e": "k#v"}


def test_lists_at_any_indentation_count_from_zero(flatten: Flatten) -> None:
    assert flatten("k:\n- one\n- two\nl:\n  - three\n") == {"k.0": "one", "k.1": "two", "l.0": "three"}


def test_maps_in_lists_keep_their_keys_together(flatten: Flatten) -> None:
    text = "users:\n  - default\n  - name: bob\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys:\n      - k 1\n"
    expected = {"users.0": "default", "users.1.name": "bob", "users.1.sudo": "ALL=(ALL) NOPASSWD:ALL"}
    assert flatten(text) == {**expected, "users.1.ssh_authorized_keys.0": "k 1"}


def test_literal_block_keeps_lines_and_backslashes(flatten: Flatten) -> None:
    text = "a: |\n  one \\n\n\n    two\n\nb: |-\n  x\n"
    assert flatten(text) == {"a": r"one \\n\n\n  two\n", "b": "x"}


def test_folded_block_becomes_one_line(flatten: Flatten) -> None:
    assert flatten("a: >-\n  one\n  two\nb: c\n") == {"a": "one two", "b": "c"}


def test_literal_block_in_a_list_is_one_item(flatten: Flatten) -> None:
    text = "runcmd:\n  - |\n    for i in 1 2; do\n      echo $i\n    done\n  - ls\n"
    assert flatten(text) == {"runcmd.0": r"for i in 1 2; do\n  echo $i\ndone\n", "runcmd.1": "ls"}


def test_nested_lists_are_words(flatten: Flatten) -> None:
    assert flatten("r:\n  - [sh, -c, 'a, b']\n  - - touch\n    - /x y\n") == {
        "r.0.0": "sh",
        "r.0.1": "-c",
        "r.0.2": "a, b",
        "r.1.0": "touch",
        "r.1.1": "/x y",
    }


def test_json_is_read_like_yaml(flatten: Flatten) -> None:
    text = '{"instance-id": "i-1",\n "public-keys": ["a b", "c"], "n": {"m": "x:y"}}\n'
    assert flatten(text) == {"instance-id": "i-1", "public-keys.0": "a b", "public-keys.1": "c", "n.m": "x:y"}


def test_long_plain_scalars_continue_on_deeper_lines(flatten: Flatten) -> None:
    assert flatten("a: one\n  two\nb: three\n") == {"a": "one two", "b": "three"}
