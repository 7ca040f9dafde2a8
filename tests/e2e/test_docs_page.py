"""End to end: /docs in a real browser shows every operation, asks its own gateway, and loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.browser import Page, find_browser, open_browser
from tests.e2e.processes import Gateway, wait_for
from tests.e2e.weights import ONE, is_right, stored

program = find_browser()
pytestmark = pytest.mark.skipif(program is None, reason="there is no browser here: apt install chromium")

OPERATIONS = "document.querySelectorAll('details.operation').length"


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway whose one worker has the first of the sample weights."""
    gateway = shared_site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    return gateway


@pytest.fixture(scope="module")
def document(gateway) -> Any:
    return gateway.ask("GET", "/openapi.json").json


@pytest.fixture
def page(gateway, tmp_path) -> Iterator[Page]:
    assert program is not None
    with open_browser(program, tmp_path / "profile") as page:
        yield page


def visit(page: Page, gateway: Gateway, document: Any, fragment: str = "") -> None:
    """Open the page and wait until it is made."""
    count = sum(len(item) for item in document["paths"].values())
    page.open(f"{gateway.url}/docs#{fragment}")
    wait_for(lambda: page.run(OPERATIONS) == count, f"{count} operations on the page")


def test_every_operation_is_shown_with_all_that_it_takes_and_answers(page, gateway, document):
    visit(page, gateway, document)
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    filled = "document.querySelectorAll('details.operation > .inside > *').length"
    wait_for(lambda: page.run(filled) == page.run(OPERATIONS), "every operation is open")
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = json.dumps(operation["operationId"])
            text = page.run(f"document.getElementById({name}).textContent")
            wanted = [path, method, operation["summary"].replace("`", ""), *operation["responses"]]
            wanted += [each["name"] for each in operation.get("parameters", ())]
            assert [each for each in wanted if each not in text] == [], name
    text = page.run("document.body.textContent")
    assert "undefined" not in text
    assert "[object" not in text
    assert page.complaints() == []


def test_it_loads_its_own_parts_and_nothing_else(page, gateway, document):
    visit(page, gateway, document)
    assert page.loaded() == {
        f"{gateway.url}/{name}" for name in ("docs#", "docs", "docs/docs.css", "docs/docs.js", "openapi.json")
    } - {f"{gateway.url}/docs#"}
    assert page.complaints() == []


def test_what_is_sent_from_it_is_answered_by_the_gateway(page, gateway, document):
    visit(page, gateway, document, "predict")
    page.run("document.querySelector('#predict button.send').click()")
    answer = "[...document.querySelectorAll('#predict [aria-live] pre')].at(-1)?.textContent"
    wait_for(lambda: page.run(answer), "an answer on the page")
    shown = json.loads(page.run(answer))
    assert shown["status"] is True
    assert is_right(shown["result"], ONE, 0.3, 0.7)
    assert page.run("document.querySelector('#predict pre.curl').textContent") == (
        f"curl {gateway.url}/predict -d '{{ \"vector\": [ 0.3, 0.7 ] }}'"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, gateway, document, width):
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
    )
    visit(page, gateway, document, "putExperiment")
    wait_for(lambda: page.run("document.querySelector('#putExperiment .inside form') !== null"), "it is open")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_a_name_finds_its_operations(page, gateway, document):
    visit(page, gateway, document)
    page.run(
        "const filter = document.getElementById('filter'); filter.value = 'promote';"
        "filter.dispatchEvent(new Event('input'))"
    )
    shown = "[...document.querySelectorAll('details.operation:not([hidden])')].map((each) => each.id)"
    assert page.run(shown) == ["promoteArm"]
