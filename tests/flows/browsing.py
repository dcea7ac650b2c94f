"""The Prefect UI in a headless Chromium, used by labels, buttons and what stands on the page. No tests here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",  # Chromium's own sandbox does not work for root
    "--no-proxy-server",
    "--no-first-run",
    "--disable-gpu",
    "--disable-3d-apis",  # the picture of a run is animated, which would take one processor of two
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
WINDOW = (1400, 900)
PATIENCE_MS = 30_000
"""For what the page itself does; a busy machine needs seconds to draw it."""
RUN_MS = 420_000
"""For a run: the worker asks for work every few seconds, then starts a process."""
ENDED = re.compile("^(Completed|Failed|Crashed|Cancelled)$")


@contextmanager
def prefect_ui(address: str, login: str) -> Iterator[Page]:
    """A page of the UI at this address, logged in. Ends the browser."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(address)
            page.get_by_placeholder("admin:pass").fill(login)
            page.get_by_role("button", name="Login").click()
            yield page
        finally:
            browser.close()


@dataclass(frozen=True)
class RunForm:
    """The form of a deployment's custom run."""

    page: Page

    @classmethod
    def open(cls, page: Page, deployment: str) -> RunForm:
        page.get_by_role("link", name="Deployments").first.click()
        page.get_by_placeholder("Search deployments").fill(deployment)
        row = page.get_by_role("row").filter(has_text=deployment)
        row.get_by_role("link", name=deployment, exact=True).first.click()  # the second one is its flow
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Custom run").click()
        expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
        return cls(page)

    def fill(self, **fields: str) -> None:
        """Write into text fields; `name` is the parameter's, the run's own is labelled otherwise."""
        for label, text in fields.items():
            self.page.get_by_label(re.compile(rf"^{label}( \(Optional\))?$")).fill(text)

    def add_item(self, text: str) -> None:
        """Add a text to the form's one list."""
        button = self.page.get_by_role("button", name="Add item")
        button.click()
        button.locator("xpath=ancestor::fieldset[1]").get_by_role("textbox").last.fill(text)

    def choices(self, label: str) -> list[str]:
        """What the select of this field offers."""
        with self._select(label) as options:
            offered = options.all_inner_texts()
            self.page.keyboard.press("Escape")
        return offered

    def choose(self, **fields: str) -> None:
        for label, choice in fields.items():
            with self._select(label):
                self.page.get_by_role("option", name=choice, exact=True).click()

    @contextmanager
    def _select(self, label: str) -> Iterator[Locator]:
        """The open select's options; it must be closed inside, and fades before the next one may be opened."""
        self.page.get_by_role("button", name=f"Select {label}").click()
        options = self.page.get_by_role("option")
        expect(options).not_to_have_count(0)
        yield options
        expect(options).to_have_count(0)

    def submit(self) -> None:
        self.page.get_by_role("button", name="Submit").click()

    def start(self) -> None:
        """Submit, and go to the page of the run."""
        self.submit()
        self.page.get_by_role("link", name="View run").click()
        self.page.wait_for_url("**/runs/flow-run/**")
        expect(self.page.get_by_role("tab", name="Artifacts")).to_be_visible()  # until then it shows the deployment's runs


def end_of_run(page: Page) -> str:
    """The state in which the run of this page ended."""
    state = page.get_by_role("main").get_by_text(ENDED).first
    expect(state).to_be_visible(timeout=RUN_MS)
    return state.inner_text()


def open_artifact(page: Page, title: str) -> Locator:
    """From a run's page to what stands in one of its artifacts."""
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name=title).click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()  # its latest version
    content = page.get_by_role("tabpanel", name="Artifact")
    expect(content).to_be_visible()
    return content


def open_run(page: Page, run_id: str) -> None:
    """The page of a run, given by its id."""
    page.goto(f"{page.url.partition('/v2/')[0]}/v2/runs/flow-run/{run_id}")


@dataclass(frozen=True)
class ReviewForm:
    """The form of a suspended run."""

    page: Page
    dialog: Locator

    @classmethod
    def await_question(cls, page: Page) -> None:
        """Until the run of this page waits for its form."""
        expect(page.get_by_role("main").get_by_text("Suspended", exact=True).first).to_be_visible(timeout=RUN_MS)

    @classmethod
    def open(cls, page: Page, *, telling: str = "") -> ReviewForm:
        """The form once it says `telling`: until then the run may not have asked again."""
        deadline = time.monotonic() + RUN_MS / 1000
        while True:
            cls.await_question(page)
            page.get_by_role("main").get_by_role("button", name="Open menu").first.click()
            page.get_by_role("menuitem", name="Resume").click()
            dialog = page.get_by_role("dialog", name="Resume Flow Run")
            expect(dialog.get_by_text("Reviewer", exact=True)).to_be_visible()
            if telling in dialog.inner_text():
                return cls(page, dialog)
            assert time.monotonic() < deadline, dialog.inner_text()
            dialog.get_by_role("button", name="Cancel").click()
            expect(dialog).to_have_count(0)
            page.reload()

    def fill(self, **fields: str) -> None:
        for label, text in fields.items():
            self.dialog.get_by_role("textbox", name=re.compile(rf"^{label}( \(Optional\))?$")).fill(text)

    def choose(self, label: str, choice: str) -> None:
        self.dialog.get_by_role("button", name=f"Select {label}").click()
        self.page.get_by_role("option", name=choice, exact=True).click()
        expect(self.page.get_by_role("option")).to_have_count(0)

    def submit(self) -> None:
        self.dialog.get_by_role("button", name="Resume", exact=True).click()
