"""The marketplace in the Prefect UI: a version submitted from its form, watched, approved and rejected in the review's form."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from browsing import ReviewForm, RunForm, end_of_run, open_artifact, open_run, prefect_ui
from commands import Service
from parties import Party
from playwright.sync_api import Page, expect
from prefect.client.orchestration import get_client

from deployments import embedded
from flows.expire_offers import expire_offers
from models.market_tables import Version
from tasks.engine.settings import load_settings
from tasks.resources import catalog

pytestmark = pytest.mark.guest

TITLE = "Guest from a form"


@pytest.fixture(scope="module")
def ui(service: Service) -> Iterator[Page]:
    login = (service.home / "prefect.login").read_text().strip()
    with prefect_ui(load_settings().prefect_ui, login) as page:
        yield page


@pytest.fixture(scope="module")
def reviewer(service: Service) -> Party:
    return Party.join(service, "form-reviewer", "--reviewer")


def submit(ui: Page, image: dict[str, Any], version: str) -> None:
    """From the deployment's form to the end of its run."""
    form = RunForm.open(ui, "publish-image")
    form.fill(image=image["id"], title=TITLE, version=version, summary="Made in a browser", support_contact="help at example")
    form.fill(licence="Use it.\nDo not sell it.")
    form.add_item("os")
    form.start()
    assert end_of_run(ui) == "Completed"


def version_named(service: Service, name: str) -> dict[str, Any]:
    rows = service.ims("market", "mine")["versions"]
    return next(row for row in rows if row["version"] == name and row["summary"] == "Made in a browser")


def review_run_of(service: Service, version: dict[str, Any]) -> str:
    return str(service.ims("market", "version", version["id"])["review_url"]).rpartition("/")[2]


def test_version_is_submitted_scanned_and_approved_in_the_browser(
    ui: Page, service: Service, reviewer: Party, sample_image: dict[str, Any]
) -> None:
    submit(ui, sample_image, "1.0")
    report = open_artifact(ui, "Gate: sample")
    expect(report.get_by_role("heading", name="Publish gate: sample")).to_be_visible()
    expect(report.get_by_text("passed", exact=True)).to_be_visible()
    expect(report.get_by_role("img", name="screen")).to_be_visible()
    version = version_named(service, "1.0")
    assert version["state"] == "in_review"

    open_run(ui, review_run_of(service, version))
    form = ReviewForm.open(ui)
    expect(form.dialog.get_by_role("cell", name=f"{TITLE} 1.0")).to_be_visible()
    form.submit()
    expect(ui.get_by_text(re.compile("'decision' is a required property"))).to_be_visible()
    form.choose("Decision", "approve")
    form.fill(Reviewer="nobody-known", Note="looks good")
    form.submit()
    expect(form.dialog).to_have_count(0)
    form = ReviewForm.open(ui, telling="Not taken")
    form.choose("Decision", "approve")
    form.fill(Reviewer=reviewer.name, Note="looks good")
    form.submit()
    assert end_of_run(ui) == "Completed"
    decided = version_named(service, "1.0")
    assert (decided["state"], decided["reviewer"], decided["note"]) == ("listed", reviewer.name, "looks good")
    (row,) = reviewer.ims("market", "list", "--search", "guest form")["listings"]
    assert (row["title"], row["version"]) == (TITLE, "1.0")


def test_review_outlives_restarts_and_rejects_in_the_browser(
    ui: Page, service: Service, reviewer: Party, sample_image: dict[str, Any]
) -> None:
    submit(ui, sample_image, "2.0")
    version = version_named(service, "2.0")
    run_id = review_run_of(service, version)
    open_run(ui, run_id)
    ReviewForm.await_question(ui)
    kill_and_restart(service, "worker", "prefect")
    open_run(ui, run_id)
    form = ReviewForm.open(ui)
    form.choose("Decision", "reject")
    form.fill(Reviewer=reviewer.name, Note="not this one")
    form.submit()
    assert end_of_run(ui) == "Completed"
    decided = version_named(service, "2.0")
    assert (decided["state"], decided["note"]) == ("rejected", "not this one")
    assert reviewer.refused("market", "review", version["id"], "--decision", "approve") == "version.state"
    (row,) = reviewer.ims("market", "list", "--search", "guest form")["listings"]
    assert row["version"] == "1.0"


def test_review_without_an_answer_is_rejected_with_its_run(
    service: Service, sample_image: dict[str, Any], folder: Path
) -> None:
    licence = folder / "form-licence.txt"
    licence.write_text("Use it.")
    told = ["--title", TITLE, "--version", "3.0", "--summary", "Made in a browser", "--support", "help at example"]
    view = service.ims("market", "publish", sample_image["id"], *told, "--category", "os", "--licence", str(licence))
    with catalog(write=True) as session:
        version = session.get_one(Version, view["version"]["id"])
        version.review_until = datetime.now(UTC)
        session.add(version)
    assert service.refused("market", "review", version.id, "--decision", "approve") == "version.state"
    assert expire_offers().reviews == [version.id]
    assert version_named(service, "3.0")["state"] == "rejected"
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(view["review_url"].rpartition("/")[2])).state
    assert state is not None
    assert state.is_cancelled()


def test_operator_shows_an_image_to_all_behind_the_same_gate(
    service: Service, reviewer: Party, sample_image: dict[str, Any]
) -> None:
    assert reviewer.refused("image", "public", sample_image["id"]) == "image.not_subscribed"
    service.ims("image", "public", sample_image["id"])
    assert reviewer.sees() == {"sample": "public"}
    assert service.refused("image", "share", sample_image["id"], reviewer.name) == "image.public"
    service.ims("image", "unpublic", sample_image["id"])
    assert reviewer.sees() == {}


def test_rescan_withdraws_by_policy(service: Service, reviewer: Party, folder: Path) -> None:
    osv = folder / "form-osv"
    osv.mkdir()
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
    affected = [{"package": {"ecosystem": "Debian:12", "name": "bash"}, "ranges": ranges}]
    entry = {"id": "TEST-2026-2", "modified": "2026-01-01T00:00:00Z", "affected": affected}
    (osv / "entry.json").write_text(json.dumps(entry))
    found = service.ims("market", "rescan", "--policy", "withdraw-all", IMS_OSV_DUMP=str(osv))["found"]
    (row,) = [row for row in found if row["title"] == TITLE]
    assert ([each["code"] for each in row["new"]], row["withdrawn"]) == (["vulnerability.known"], True)
    assert (version_named(service, "1.0")["state"], version_named(service, "1.0")["withdrawn_for"]) == ("withdrawn", "all")
    assert reviewer.ims("market", "list", "--search", "guest form")["listings"] == []


def kill_and_restart(service: Service, *names: str) -> None:
    """End services with SIGKILL, by the process ids that `ims status` gives, and bring up what is missing."""
    running = service.ims("status")["services"]
    for name in names:
        os.kill(running[name]["pid"], signal.SIGKILL)
        await_end(running[name]["pid"])
    embedded.up(load_settings())
    for name, row in service.ims("status")["services"].items():
        assert row["state"] == "running"
        assert (row["pid"] != running[name]["pid"]) == (name in names)


def await_end(pid: int) -> None:
    """Until the process is gone, or waits for its parent alone."""
    deadline = time.monotonic() + 60
    status = Path(f"/proc/{pid}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
