"""End to end: the site that is made of docs/ is whole, and loads nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.e2e.browser import find_browser

pytestmark = pytest.mark.apart
PROGRAM = find_browser()
NEEDS_BROWSER = pytest.mark.skipif(PROGRAM is None, reason="there is no browser here: apt install chromium")


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    options = ("-b", "html", "-W", "--keep-going", "-q", "-d", f"{target}-doctrees")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(source), str(target)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    pytest.importorskip("furo", reason="it comes with the extra docs")
    folder = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT / "docs", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="it comes with the extra docs")
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text())
    (source / "static").symlink_to(ROOT / "docs" / "static")
    (source / "index.md").write_text("# A page\n\n[none](none.md), [nowhere](index.md#nowhere)\n")
    (source / "lost.md").write_text("# Nobody knows me\n")
    done = build(source, tmp_path / "html")
    assert done.returncode != 0
    for complaint in ("none.md", "'nowhere'", "isn't included in any toctree"):
        assert complaint in done.stderr


def test_every_page_of_docs_is_a_page_of_the_site(site: Path) -> None:
    pages = [path.stem for path in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if not (site / f"{name}.html").is_file()] == []


@pytest.fixture(scope="module")
def context(site: Path) -> Iterator[Any]:
    """A phone in the dark."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield browser.new_context(color_scheme="dark", viewport={"width": 390, "height": 844})
        browser.close()


@NEEDS_BROWSER
def test_pages_load_nothing_from_elsewhere_and_fit_a_phone_and_a_desk(site: Path, context: Any) -> None:
    page = context.new_page()
    elsewhere, complaints = [], []
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or elsewhere.append(asked.url))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    too_wide = []
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        for width in (390, 1320):
            page.set_viewport_size({"width": width, "height": 844})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                too_wide.append((path.name, width))
    assert (elsewhere, complaints, too_wide) == ([], [], [])


@NEEDS_BROWSER
@pytest.mark.parametrize("name", ["index", "quickstart", "flags", "performance", "api"])
def test_axe_finds_no_serious_violation(name: str, site: Path, context: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri())
    found = axe.run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


@NEEDS_BROWSER
def test_the_search_finds_a_page_without_a_server(site: Path, context: Any) -> None:
    page = context.new_page()
    page.goto(f"{(site / 'search.html').as_uri()}?q=rendezvous")
    page.wait_for_selector("#search-results li a[href*='cache.html']")
