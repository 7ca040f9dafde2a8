"""End to end: /dashboard looks right on every screen, and when not all is well."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.dashboard.page import PHONE, SCHEMES, WIDE, Dashboard
from tests.e2e.processes import Gateway
from tests.services.recorded_gateway import serve_recorded

pytestmark = pytest.mark.apart  # a minute of a browser

LOOKS = [*product((WIDE, PHONE), SCHEMES)]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(dashboard, size, scheme):
    dashboard.resize(size, scheme)
    dashboard.page.locator('details[data-model="sum"] summary').click()
    expect(dashboard.page.get_by_role("button", name="Activate 2")).to_be_visible()
    expect(dashboard.page.locator(".uplot canvas")).to_have_count(3, timeout=20_000)
    assert dashboard.violations() == []
    assert not dashboard.is_too_wide()
    dashboard.keep(f"{'wide' if size == WIDE else 'phone'}-{scheme}")


def test_the_colours_may_be_chosen_and_stay(dashboard):
    page = dashboard.page
    page.emulate_media(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.locator("#theme").click()
    page.locator("#theme").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.reload()
    dashboard.until("live")
    assert page.evaluate(paper) == dark
    assert dashboard.violations() == []


# --- when not all is well


def test_without_its_stream_it_polls(chromium, gateway):
    context = chromium.new_context()
    page = context.new_page()
    page.route("**/dashboard/live", lambda route: route.abort())
    page.goto(f"{gateway.url}/dashboard")
    page.wait_for_selector("#connection[data-state=polling]")
    expect(page.locator("#fleet-table tbody tr").filter(has_text="ready")).to_have_count(2)
    expect(page.locator(".uplot canvas")).to_have_count(3, timeout=20_000)
    expect(page.locator("#recent")).to_contain_text("version serves")
    context.close()


def test_a_fleet_without_workers_says_how_to_start_one(site, chromium):
    gateway = site.start_gateway()
    for size, scheme in LOOKS[1:3]:
        dashboard = Dashboard(chromium, gateway.url, size, scheme)
        dashboard.until("live")
        expect(dashboard.section("fleet")).to_contain_text("No workers yet")
        expect(dashboard.section("models")).to_contain_text("No models yet")
        expect(dashboard.section("autoscaler")).to_contain_text("starts no workers by itself")
        expect(dashboard.page.locator("#fleet-table table")).to_be_hidden()
        expect(dashboard.page.locator(".uplot canvas")).to_have_count(3, timeout=20_000)
        assert dashboard.violations() == []
        assert not dashboard.is_too_wide()
        dashboard.keep(f"empty-{scheme}")
        dashboard.close()
        assert dashboard.complaints == []


def crowd(gateway: Gateway, count: int) -> dict[str, Any]:
    """What this gateway says, as if it had so many workers: some of them new, silent or leaving."""
    paths = ("/status", "/history", "/recent", "/models", "/experiments", "/jobs")
    answers = {path: gateway.ask("GET", path).json for path in paths}
    answers["/experiments"]["experiments"] = []
    [template, _] = answers["/status"]["workers"]
    states = {3: ("suspect", "silent for 2.4 s"), 77: ("syncing", ""), 150: ("draining", "")}
    workers = []
    for n in range(count):
        state, trouble = states.get(n, ("ready", ""))
        own = {"id": f"{n:032x}", "name": f"crowd-{n}", "host": f"host-{n // 8}", "pid": 1000 + n}
        figures = {
            "count_requests_handled": 37 * n * n, "p50": 0.5 + n % 7 / 9, "p99": 2 + n % 11,
            "in_flight": n % 3, "cpu_percent": n % 100, "rss_mb": 200.0 + n, "last_seen_s": n % 5 / 10,
            "cache": {"size": n, "capacity": 10_000, "hits": 9 * n, "misses": n + 1},
        }  # fmt: skip
        workers.append({**template, **own, **figures, "state": state, "trouble": trouble})
    answers["/status"] |= {"workers": workers, "workers_count": count, "manager": None}
    return answers


def test_two_hundred_workers_are_shown_found_and_sorted(gateway, chromium):
    with serve_recorded(crowd(gateway, 200)) as url:
        dashboard = Dashboard(chromium, url)
        dashboard.until("live")
        expect(dashboard.workers("ready")).to_have_count(197)
        expect(dashboard.workers().first).to_contain_text("silent for 2.4 s")
        expect(dashboard.page.locator("#tiles")).to_contain_text("197 of 200")
        expect(dashboard.section("fleet")).to_contain_text("200 workers on 25 hosts")
        assert dashboard.violations() == []
        dashboard.keep("200-workers")
        sort = dashboard.page.get_by_role("button", name="Requests", exact=True)
        sort.click()
        expect(dashboard.workers().first).to_contain_text("crowd-199")
        sort.click()
        expect(dashboard.workers().first).to_contain_text("crowd-0")
        dashboard.page.get_by_label("Find workers").fill("host-24")
        expect(dashboard.workers()).to_have_count(8)
        expect(dashboard.section("fleet")).to_contain_text("8 of 200 shown")
        dashboard.page.get_by_label("Find workers").fill("")
        dashboard.resize(PHONE, "dark")
        assert dashboard.violations() == []
        assert not dashboard.is_too_wide()
        dashboard.keep("200-workers-phone")
        dashboard.close()
        assert dashboard.complaints == []


def test_a_gateway_that_is_down_is_said_to_be_and_found_again(site, chromium):
    gateway = site.start_gateway()
    site.spawn_worker()
    gateway.wait_ready(1)
    dashboard = Dashboard(chromium, gateway.url)
    dashboard.until("live")
    expect(dashboard.workers("ready")).to_have_count(1)
    gateway.kill()
    dashboard.until("down")
    expect(dashboard.page.locator("#down")).to_contain_text("has not answered since")
    expect(dashboard.workers("ready")).to_have_count(1)  # what it said last
    assert dashboard.violations() == []
    dashboard.keep("down")
    again = site.start_gateway()
    dashboard.until("live")
    expect(dashboard.page.locator("#down")).to_be_hidden()
    again.wait_ready(1)
    expect(dashboard.workers("ready").last).to_be_visible()
    dashboard.close()
    assert [each for each in dashboard.complaints if "Failed to load resource" not in each] == []
