"""prefect.yaml against the flows it names; nothing is started. On a real server: test_prefect_deploy.py."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.flows import load_flow_from_entrypoint
from ruamel.yaml import YAML

from deployments import registering

STANZAS: list[dict[str, Any]] = YAML(typ="safe").load(registering.PREFECT_FILE)["deployments"]
by_name = pytest.mark.parametrize("stanza", STANZAS, ids=lambda stanza: stanza["name"])


def flow_of(stanza: dict[str, Any]) -> Flow[..., Any]:
    return load_flow_from_entrypoint(stanza["entrypoint"])


def test_stanzas_are_in_alphabetical_order() -> None:
    names = [stanza["name"] for stanza in STANZAS]
    assert names == sorted(set(names))
    assert set(names) == registering.deployment_names()


def test_prefects_own_reader_sees_what_ours_sees() -> None:
    """Merge keys are read by PyYAML there and by ruamel.yaml here; neither side may know a key that the other one drops."""
    content = yaml.safe_load(registering.PREFECT_FILE.read_text())
    assert content["deployments"] == STANZAS
    read = [it.model_dump(exclude_unset=True, mode="json") for it in PrefectYamlModel.model_validate(content).deployments]
    assert [set(it) for it in read] == [set(stanza) for stanza in STANZAS]


@by_name
def test_stanza_names_a_flow_of_this_project(stanza: dict[str, Any]) -> None:
    assert flow_of(stanza).name == stanza["name"]


@by_name
def test_stanza_says_pool_version_and_limit(stanza: dict[str, Any]) -> None:
    assert stanza["work_pool"] == {"name": "{{ $IMS_HOST }}"}
    assert stanza["version"] == "{{ $IMS_RELEASE }}"
    assert stanza["concurrency_limit"]["collision_strategy"] in {"ENQUEUE", "CANCEL_NEW"}


@by_name
def test_parameters_of_stanza_and_schedules_are_the_flows(stanza: dict[str, Any]) -> None:
    """A schedule runs without a person, so it must give every parameter that has no default."""
    flow, given = flow_of(stanza), stanza.get("parameters", {})
    assert set(given) <= set(flow.parameters.properties)
    for schedule in stanza.get("schedules", ()):
        flow.validate_parameters({**given, **schedule.get("parameters", {})})


def test_every_flow_has_a_deployment() -> None:
    modules = [importlib.import_module(f"flows.{path.stem}") for path in Path("flows").glob("*.py") if path.stem != "__init__"]
    own = {it.name for module in modules for it in vars(module).values() if isinstance(it, Flow)}
    assert own == registering.deployment_names()


def test_release_changes_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = registering.release()
    monkeypatch.setattr(registering, "CODE", ("flows",))
    assert registering.release() != before
