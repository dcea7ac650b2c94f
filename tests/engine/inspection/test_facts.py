"""Facts from a disk are text that can be shown anywhere, whatever the disk says."""

from __future__ import annotations

import json

from tasks.engine.inspection.facts import MAX_FILESYSTEMS, MAX_TEXT, Filesystem, OsFacts, clean


def test_hostile_texts_are_cleaned_and_cut():
    facts = OsFacts.from_json({"hostname": "a\x1b[31m\n<b>" + "x" * 999, "distro": "\x00", "product_name": None})
    assert facts.hostname.startswith("a [31m <b>x")
    assert len(facts.hostname) == MAX_TEXT
    assert (facts.distro, facts.product_name) == ("unknown", "unknown")


def test_absurd_numbers_are_bounded():
    facts = OsFacts.from_json({"major": 10**30, "minor": -1})
    assert (facts.major, facts.minor) == (99_999, 0)


def test_endless_file_systems_are_cut():
    facts = OsFacts.from_json({"filesystems": [{"device": f"/dev/sda{n}", "type": "ext4"} for n in range(999)]})
    assert len(facts.filesystems) == MAX_FILESYSTEMS
    assert facts.filesystems[0] == Filesystem("/dev/sda0", "ext4")


def test_facts_survive_their_own_json():
    facts = OsFacts(type="linux", distro="debian", major=12, filesystems=(Filesystem("/dev/sda1", "vfat"),), reason="x")
    assert OsFacts.from_json(json.loads(json.dumps(facts.as_json()))) == facts


def test_cleaning_keeps_letters_of_any_script():
    assert clean(" é\u202e漢\t字 ") == "é 漢 字"
