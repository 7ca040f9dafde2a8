"""End to end: the report in a real browser draws every plot, loads nothing, and complains of nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bench.report.command import main
from bench.results import write_result
from tests.bench.runs import made_run
from tests.e2e.browser import Page, find_browser, open_browser
from tests.e2e.processes import wait_for

program = find_browser()
pytestmark = pytest.mark.skipif(program is None, reason="there is no browser here: apt install chromium")

LIGHT = [(9, 87, 195), (194, 65, 12)]  # of the first two things, as page.css has it
DARK = [(125, 180, 255), (255, 157, 102)]
LINES = ["percentiles", "rates", "throughput", "latency", "in-flight"]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [
        made_run(1, name="one"),
        made_run(2, name="other", median=0.02, rate=120, stall=(12, 14), errors={"503": 9}),
    ]
    for run in runs:
        write_result(run, folder / f"{run.name}.json")
    assert main([*(str(folder / f"{run.name}.json") for run in runs), "-o", str(folder / "report.html")]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def opened(report) -> Iterator[Page]:
    assert program is not None
    with open_browser(program, report.parent / "profile") as page:
        page.open(report.as_uri())
        wait_for(lambda: page.run("document.readyState") == "complete" and page.run("!!document.title"), "it")
        yield page


@pytest.fixture
def page(opened) -> Page:
    show(opened, width=1200)
    return opened


def show(page: Page, *, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.call("Emulation.setEmulatedMedia", features=[feature])


def painted(page: Page, name: str) -> list[tuple[int, tuple[int, int, int]]]:
    """How many pixels of a plot have each colour, as a screenshot has them."""
    box = page.run(
        f"(({{x, y, width, height}}) => ({{x: x + scrollX, y: y + scrollY, width, height, scale: 1}}))"
        f"(document.querySelector('#{name} svg').getBoundingClientRect())"
    )
    shot = page.call("Page.captureScreenshot", clip=box, captureBeyondViewport=True)["data"]
    colours = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB").getcolors(1 << 24)
    assert colours is not None
    return colours


def near(page: Page, name: str, colour: tuple[int, int, int]) -> int:
    """How many pixels of a plot are of this colour, give or take what smooths its edges."""
    return sum(
        count
        for count, found in painted(page, name)
        if max(abs(one - other) for one, other in zip(found, colour, strict=True)) < 24
    )


@pytest.mark.parametrize(("scheme", "colours"), [("light", LIGHT), ("dark", DARK)])
def test_every_plot_is_drawn_in_the_colours_of_its_things(page, scheme, colours):
    show(page, width=1200, scheme=scheme)
    for name in LINES:
        assert all(near(page, name, colour) > 12 for colour in colours), name
    for n, colour in enumerate(colours):
        assert near(page, f"heat-{n}", colour) > 100
    assert page.complaints() == []


def test_it_loads_itself_and_nothing_else(page, report):
    painted(page, "heat-0")
    assert {url for url in page.loaded() if not url.startswith("data:image/png;")} == {report.as_uri()}
    assert page.complaints() == []


def test_a_thing_that_is_switched_off_is_in_no_plot(page):
    assert near(page, "throughput", LIGHT[1]) > 20
    page.run("document.querySelectorAll('nav button')[1].click()")
    assert near(page, "throughput", LIGHT[1]) == 0
    assert near(page, "throughput", LIGHT[0]) > 20
    page.run("document.querySelectorAll('nav button')[1].click()")
    assert near(page, "throughput", LIGHT[1]) > 20


def test_a_plot_says_what_is_under_the_pointer(page):
    page.run(
        "(() => { const plot = document.querySelector('#throughput svg'), box = plot.getBoundingClientRect();"
        " const {left, right, top, bottom} = JSON.parse(plot.dataset.area), size = box.width / 760;"
        " plot.dispatchEvent(new PointerEvent('pointermove', {clientX: box.x + (left + right) / 2 * size,"
        " clientY: box.y + (top + bottom) / 2 * size})); })()"
    )
    said = page.run("document.querySelector('#throughput output').textContent")
    across, up = page.run("(({x, y}) => [x, y])(document.querySelector('#throughput svg').dataset)")
    middles = [float(scale.split()[2]) / 2 for scale in (across, up)]
    assert said == f"s {middles[0]:.1f}: {middles[1]:.0f} answers/s"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    show(page, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width
