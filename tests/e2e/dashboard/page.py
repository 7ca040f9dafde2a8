"""The dashboard in a real browser: opened, looked at, kept as pictures. Nothing here is a test."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.e2e.browser import find_browser
from tests.e2e.processes import ROOT

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")
WIDE, PHONE = (1440, 900), (390, 844)
SCHEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
# Pictures stay here, for people; a folder of the surroundings' own is named by the variable.
ARTEFACTS = Path(os.environ.get("E2E_ARTEFACTS", ROOT / "build" / "screenshots"))


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """A browser without a screen, of this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Dashboard:
    """One page; `complaints` are what its console and its scripts had to say."""

    def __init__(
        self, browser: Browser, url: str, size: tuple[int, int] = WIDE, scheme: str = "light"
    ) -> None:
        width, height = size
        self.url = url
        self.complaints: list[str] = []
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{url}/dashboard")

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def close(self) -> None:
        self._context.close()

    def until(self, state: str) -> None:
        """Until the page says that it is live, polling, or down."""
        self.page.wait_for_selector(f"#connection[data-state={state}]")

    def workers(self, text: str = "") -> Locator:
        """The rows of the fleet's table that have this text."""
        return self.page.locator("#fleet-table tbody tr").filter(has_text=text)

    def section(self, name: str) -> Locator:
        return self.page.locator(f"section#{name}")

    def confirm(self, button: str) -> None:
        """Say yes to the question in front of the page."""
        self.page.locator("dialog[open]").get_by_role("button", name=button, exact=True).click()

    def keep(self, name: str) -> Path:
        """A picture of the whole page."""
        path = ARTEFACTS / f"dashboard-{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("scrollTo(0, 0)")  # else what sticks to the top is in its middle
        self.page.screenshot(path=path, full_page=True)
        return path

    def resize(self, size: tuple[int, int], scheme: str) -> None:
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    def violations(self) -> list[tuple[str, str, list[str]]]:
        """What axe-core finds that is serious: rule, what it asks for, and where it is not so."""
        self.page.evaluate(_axe())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            (each["id"], each["help"], [str(node["target"]) for node in each["nodes"]])
            for each in found
            if each["impact"] in SERIOUS
        ]

    def is_too_wide(self) -> bool:
        """Whether it has to be scrolled to the side."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@cache
def _axe() -> str:
    return importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
