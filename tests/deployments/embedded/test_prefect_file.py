"""prefect.yaml against the flows it names."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from deployments import registering

STANZAS = YAML(typ="safe").load(registering.PREFECT_FILE)["deployments"]


def test_stanzas_are_in_alphabetical_order() -> None:
    names = [stanza["name"] for stanza in STANZAS]
    assert names == sorted(set(names))
    assert set(names) == registering.deployment_names()


@pytest.mark.parametrize("stanza", STANZAS, ids=lambda stanza: stanza["name"])
def test_stanza_names_a_flow_of_this_project(stanza: dict[str, str]) -> None:
    from prefect.flows import load_flow_from_entrypoint

    assert load_flow_from_entrypoint(stanza["entrypoint"]).name == stanza["name"]


def test_release_changes_with_the_file(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registering.release()
    monkeypatch.setattr(registering, "CODE", ("flows",))
    assert registering.release() != before
