"""End to end: a flame graph in a real browser is drawn, loads nothing, and goes into what is clicked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.profile.flame import drawn
from bench.profile.stacks import Stacks
from tests.e2e.browser import Page, find_browser, open_browser
from tests.e2e.processes import wait_for

program = find_browser()
pytestmark = pytest.mark.skipif(program is None, reason="there is no browser here: apt install chromium")

STACKS = Stacks(
    {
        ("MainThread", "main (gw.py:1)", "serve (lane.py:2)"): 60,
        ("MainThread", "main (gw.py:1)", "sweep (lane.py:9)"): 20,
        ("data-0", "run (worker.py:3)"): 20,
    }
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Page]:
    assert program is not None
    folder = tmp_path_factory.mktemp("flame")
    (folder / "gateway.svg").write_text(drawn(STACKS, "gateway"))
    with open_browser(program, folder / "profile") as page:
        page.open((folder / "gateway.svg").as_uri())
        wait_for(lambda: page.run("document.querySelectorAll('svg.frame').length") == 6, "the frames")
        yield page


def widths(page: Page) -> dict[str, float]:
    """Of the frames that are shown: their shares of the picture."""
    script = """var whole = document.documentElement.getBoundingClientRect().width;
        [...document.querySelectorAll("svg.frame")].filter(frame => frame.style.display != "none").map(
            frame => [frame.querySelector("text").textContent,
                      frame.getBoundingClientRect().width / whole])"""
    return {name: pytest.approx(share, abs=0.01) for name, share in page.run(script)}


def click(page: Page, name: str) -> None:
    script = f"""[...document.querySelectorAll("svg.frame")].find(
        frame => frame.querySelector("text").textContent == {name!r}).querySelector("rect").dispatchEvent(
        new MouseEvent("click", {{bubbles: true}}))"""
    page.run(script)


def test_each_frame_is_as_wide_as_its_share(page: Page):
    assert widths(page) == {
        "MainThread": 0.8,
        "main (gw.py:1)": 0.8,
        "serve (lane.py:2)": 0.6,
        "sweep (lane.py:9)": 0.2,
        "data-0": 0.2,
        "run (worker.py:3)": 0.2,
    }


def test_a_click_goes_into_a_frame_and_another_outside_comes_back(page: Page):
    click(page, "sweep (lane.py:9)")
    assert widths(page) == {"MainThread": 1.0, "main (gw.py:1)": 1.0, "sweep (lane.py:9)": 1.0}
    page.run("document.documentElement.dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert len(widths(page)) == 6


def test_it_loads_nothing_and_complains_of_nothing(page: Page):
    assert {url for url in page.loaded() if not url.startswith("file:")} == set()
    assert page.complaints() == []
