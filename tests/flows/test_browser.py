"""The lifecycles in the Prefect UI: what their forms say, and an import that is started, watched and read there."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import RunForm, end_of_run, open_artifact, prefect_ui
from commands import Service
from playwright.sync_api import Page, expect

from deployments.registering import deployment_names
from tasks.engine.settings import load_settings
from tasks.requests import DeclaredFormat

MakeDisk = Callable[..., Path]


@pytest.fixture(scope="module")
def ui(service: Service) -> Iterator[Page]:
    """The UI of the embedded Prefect server, as whoever may read the login sees it."""
    login = (service.home / "prefect.login").read_text().strip()
    with prefect_ui(load_settings().prefect_ui, login) as page:
        yield page


def schema_of(deployment: str) -> dict[str, Any]:
    """What the form of a deployment is made from."""
    verb = deployment.replace("-", "_")
    parameters = getattr(importlib.import_module(f"flows.{verb}"), verb).parameters
    return dict(parameters.model_dump())


def descriptions(schema: dict[str, Any]) -> dict[str, str]:
    """What each field says of itself, those inside options included; an enumeration's own words stand for its field."""
    named = schema["definitions"]
    groups = [schema, *named.values()]
    fields = {name: field for group in groups for name, field in group.get("properties", {}).items()}
    return {
        name: field.get("description") or named.get(str(field.get("$ref")).rpartition("/")[2], {}).get("description", "")
        for name, field in fields.items()
    }


@pytest.mark.parametrize("deployment", sorted(deployment_names()))
def test_form_describes_every_field(deployment: str) -> None:
    assert [name for name, text in descriptions(schema_of(deployment)).items() if not text] == []


@pytest.mark.server
def test_import_form_shows_what_each_field_means_and_its_choices(ui: Page) -> None:
    form = RunForm.open(ui, "import-image")
    for text in descriptions(schema_of("import-image")).values():
        expect(ui.get_by_text(text, exact=True)).to_be_visible()
    assert form.choices("format") == [format.value for format in DeclaredFormat]
    assert form.choices("verify") == ["boot", "none"]


@pytest.mark.server
def test_import_form_refuses_a_bad_name_beside_its_field(ui: Page, service: Service) -> None:
    form = RunForm.open(ui, "import-image")
    form.fill(source="/no/such/disk", name="bad/name")
    form.submit()
    expect(ui.get_by_role("paragraph").filter(has_text="'bad/name' does not match")).to_be_visible()
    assert "bad/name" not in [image["name"] for image in service.ims("image", "list", "--all")["images"]]


@pytest.mark.server
def test_import_from_the_form_completes_with_its_report(ui: Page, service: Service, data_disk: MakeDisk) -> None:
    form = RunForm.open(ui, "import-image")
    form.fill(source=str(data_disk(60)), name="from-form", description="made in a browser", min_memory_mib="512")
    form.choose(format="raw", verify="none")
    form.start()
    assert end_of_run(ui) == "Completed"
    report = open_artifact(ui, "Image from-form")
    image = next(image for image in service.ims("image", "list")["images"] if image["name"] == "from-form")
    expect(report.get_by_role("heading", name="Image from-form")).to_be_visible()
    for text in (image["id"], image["disks"][0]["digest"]):
        expect(report.get_by_role("cell", name=text, exact=True)).to_be_visible()
    assert (image["state"], image["description"], image["min_memory_mib"]) == ("active", "made in a browser", 512)
