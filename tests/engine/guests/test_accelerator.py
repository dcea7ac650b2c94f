"""The accelerator's proof, run for real: emulation always passes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tasks.engine.guests import accelerator
from tasks.engine.guests.accelerator import Accelerator, choose_accelerator, prove

needs_kvm_node = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="the answer is tcg without a proof")


@pytest.mark.guest
def test_probe_comes_through_under_emulation():
    assert prove("tcg", timeout_seconds=60) == Accelerator("tcg", "a guest ran from its firmware to long mode under tcg")


@pytest.mark.guest
def test_probe_without_time_is_no_proof():
    assert "far slower" in prove("tcg", timeout_seconds=0).reason


@pytest.mark.guest
@needs_kvm_node
def test_answer_is_remembered_and_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = choose_accelerator("auto", home=tmp_path)
    monkeypatch.setattr(accelerator, "prove", None)
    assert choose_accelerator("auto", home=tmp_path) == first


@pytest.mark.guest
@needs_kvm_node
def test_answer_of_another_kernel_is_proved_anew(tmp_path: Path):
    first = choose_accelerator("auto", home=tmp_path)
    memory = tmp_path / "accelerator.json"
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps(known | {"host": known["host"] | {"kernel": "1.0"}, "reason": "stale"}))
    assert choose_accelerator("auto", home=tmp_path) == first


@needs_kvm_node
def test_unreadable_memory_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "accelerator.json").write_text("[1")
    monkeypatch.setattr(accelerator, "prove", lambda _kind: Accelerator("tcg", "asked"))
    assert choose_accelerator("auto", home=tmp_path).reason == "asked"


def test_wish_is_followed_without_a_proof(tmp_path: Path):
    assert choose_accelerator("kvm", home=tmp_path).kind == "kvm"
    assert list(tmp_path.iterdir()) == []
