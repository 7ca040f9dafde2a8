"""End to end: /dashboard of a real gateway with real workers shows what it does, and has it do things."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from sklearn.datasets import load_digits

from tests.e2e.dashboard.page import Dashboard
from tests.e2e.weights import ONE, TWO, is_right

pytestmark = pytest.mark.apart  # a minute of a browser

JOB_ROWS = 1_500_000


def picture() -> dict[str, Any]:
    """A file that a form may be given: a zero, dark on light paper."""
    paper = Image.fromarray((255 - load_digits().images[0] * 255 / 16).astype(np.uint8))
    file = io.BytesIO()
    paper.resize((64, 64), Image.Resampling.BICUBIC).save(file, "PNG")
    return {"name": "zero.png", "mimeType": "image/png", "buffer": file.getvalue()}


def ask_for(dashboard: Dashboard, model: str) -> Any:
    """The form, for this model."""
    dashboard.page.get_by_label("Model", exact=True).select_option(model)
    return dashboard.section("try")


def result(dashboard: Dashboard) -> Any:
    """The JSON that the form shows, as soon as it shows one."""
    expect(dashboard.section("try").get_by_text("200 OK")).to_be_visible()
    return json.loads(dashboard.section("try").locator("pre.answer").inner_text())


# --- what it shows


def test_the_whole_of_a_fleet_at_work_is_shown(dashboard, gateway):
    workers = gateway.wait_ready(2)
    expect(dashboard.workers("ready")).to_have_count(2)
    for worker in workers:
        row = dashboard.workers(worker["name"])
        expect(row).to_contain_text(f"pid {worker['pid']}")
        expect(row).to_contain_text("MiB")
        expect(row).to_contain_text(worker["host"])
    tiles = dashboard.page.locator("#tiles")
    expect(tiles).to_contain_text("2 of 2")
    expect(tiles).to_contain_text(f"{gateway.status()['count_requests_handled']} since the start")
    expect(dashboard.section("models").locator("details")).to_have_count(6)
    expect(dashboard.section("experiments")).to_contain_text("running")
    expect(dashboard.section("autoscaler")).to_contain_text("2 wanted of 2 to 3")
    expect(dashboard.section("recent")).to_contain_text("model_error")
    expect(dashboard.section("recent")).to_contain_text("version serves")
    expect(dashboard.page.locator(".uplot canvas")).to_have_count(3, timeout=20_000)
    text = dashboard.page.locator("body").inner_text()
    assert not re.search(r"undefined|\[object|NaN", text)
    dashboard.keep("wide-light")


def test_it_loads_its_own_gateway_and_nothing_else(chromium, gateway):
    asked: list[str] = []
    context = chromium.new_context()
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{gateway.url}/dashboard")
    page.wait_for_selector("#connection[data-state=live]")
    context.close()
    assert [url for url in asked if not url.startswith((gateway.url, "data:"))] == []
    assert f"{gateway.url}/dashboard/app.js" in asked


def test_an_experiment_has_its_arms_with_intervals(dashboard):
    section = dashboard.section("experiments")
    expect(section.locator("tbody tr")).to_have_count(2)
    expect(section.locator("tbody tr").first).to_contain_text(re.compile(r"\d+\.\d+ ms to \d+\.\d+ ms"))
    expect(section.locator("svg.interval")).to_have_count(4)


def test_a_worker_that_dies_is_shown_as_gone_and_the_next_one_as_ready(dashboard, gateway):
    [victim, _] = gateway.wait_ready(2)
    os.kill(victim["pid"], signal.SIGKILL)
    lost = dashboard.workers(f"pid {victim['pid']}")
    expect(lost).to_contain_text("gone", timeout=30_000)
    expect(dashboard.section("recent")).to_contain_text("worker gone")
    expect(dashboard.workers("ready")).to_have_count(2, timeout=30_000)
    pids = {worker["pid"] for worker in gateway.wait_ready(2)}
    assert victim["pid"] not in pids
    for pid in pids:
        expect(dashboard.workers(f"pid {pid}")).to_contain_text("ready")
    dashboard.keep("worker-gone")


# --- what it does


def test_a_version_is_activated_and_rolled_back(dashboard, gateway):
    model = dashboard.page.locator('details[data-model="sum"]')
    model.locator("summary").click()
    model.get_by_role("button", name="Activate 2").click()
    dashboard.confirm("Activate")
    expect(dashboard.page.locator("#notices")).to_contain_text("2 of sum is active.")
    assert gateway.ask("GET", "/models/sum").json["active"] == "2"
    expect(model.locator("tbody tr").filter(has_text="active")).to_contain_text("2")
    model.get_by_role("button", name="Roll back to 1").click()
    dashboard.confirm("Roll back")
    expect(dashboard.page.locator("#notices")).to_contain_text("sum is back at 1.")
    assert gateway.ask("GET", "/models/sum").json["active"] == "1"


def test_all_of_that_goes_by_keyboard(dashboard, gateway):
    page = dashboard.page
    page.locator('details[data-model="sum"] summary').focus()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Activate 2")
    expect(button).to_be_visible()
    for _ in range(10):
        page.keyboard.press("Tab")
        if button.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_contain_text("Activate 2?")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert gateway.ask("GET", "/models/sum").json["active"] == "1"
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#notices")).to_contain_text("2 of sum is active.")
    assert gateway.ask("POST", "/models/sum/rollback").json["status"] is True


def test_a_picture_is_answered_with_its_class_and_where_the_time_went(dashboard):
    form = ask_for(dashboard, "digits")
    form.get_by_label("A picture").set_input_files(picture())
    expect(form.get_by_alt_text("The chosen picture")).to_be_visible()
    form.get_by_role("button", name="Send").click()
    assert result(dashboard)["result"][0]["label"] == "zero"
    timing = form.locator("table.timing")
    for phase in ("waiting at the gateway", "on the link", "in the model"):
        expect(timing).to_contain_text(phase)
    expect(form).to_contain_text("local-")
    dashboard.keep("try-it")


def test_a_picture_may_be_the_answer(dashboard):
    form = ask_for(dashboard, "shapes")
    form.get_by_label("A picture").set_input_files(picture())
    form.get_by_role("button", name="Send").click()
    answer = form.get_by_alt_text("The answer")
    expect(answer).to_be_visible()
    assert answer.evaluate("element => element.naturalWidth") > 0


def test_vectors_json_and_text_are_answered_too(dashboard):
    form = ask_for(dashboard, "sum")
    form.get_by_label("Numbers").fill("0.3, 0.7")
    form.get_by_role("button", name="Send").click()
    assert is_right(result(dashboard)["result"], ONE, 0.3, 0.7)
    form.get_by_label("Version", exact=True).select_option("2")
    form.get_by_label("JSON").check()
    form.get_by_label("The body").fill('{"vectors": [[0.1, 0.2], [0.3, 0.4]]}')
    form.get_by_role("button", name="Send").click()
    expect(form.locator("pre.answer")).to_contain_text("results")
    assert is_right(result(dashboard)["results"][1], TWO, 0.3, 0.4)
    form = ask_for(dashboard, "sentences")
    form.get_by_label("Text", exact=True).last.fill("There will be thunder and heavy rain")
    form.get_by_role("button", name="Send").click()
    expect(form.locator("pre.answer")).to_contain_text("weather")


def test_what_makes_no_request_is_said_before_one_is_sent(dashboard):
    form = ask_for(dashboard, "sum")
    form.get_by_label("Numbers").fill("0.3, many")
    form.get_by_role("button", name="Send").click()
    expect(form).to_contain_text("A vector is numbers with commas between them")


def test_a_job_is_seen_to_run_and_cancelled(dashboard, gateway, shared_site):
    source = shared_site.folder / "rows.csv"
    source.write_text("0.3,0.7\n" * JOB_ROWS)
    order = {"input": source.as_uri(), "output": source.with_name("answers.csv").as_uri()}
    job = gateway.ask("POST", "/jobs", json.dumps(order).encode()).json["id"]
    row = dashboard.section("jobs").locator("tbody tr").filter(has_text=job[:8])
    expect(row).to_contain_text("running")
    expect(row.get_by_role("progressbar")).to_be_visible()
    dashboard.keep("job")
    row.get_by_role("button", name="Cancel").click()
    dashboard.confirm("Cancel it")
    expect(row).to_contain_text("cancelled")
    assert gateway.ask("GET", f"/jobs/{job}").json["state"] == "cancelled"


def test_where_a_token_is_asked_for_an_action_takes_it(dashboard, gateway):
    """The proxy that asks for it is the browser's own here."""
    sent: list[str | None] = []

    def guard(route: Any) -> None:
        sent.append(route.request.headers.get("authorization"))
        if sent[-1] == "Bearer secret":
            route.continue_()
        else:
            refusal = {"status": False, "message": "this takes the admin token"}
            route.fulfill(status=401, json=refusal)

    dashboard.page.route(re.compile(r"/activate$"), guard)
    model = dashboard.page.locator('details[data-model="sum"]')
    model.locator("summary").click()
    model.get_by_role("button", name="Activate 2").click()
    dashboard.confirm("Activate")
    for token, then in (("wrong", "does not know this token"), ("secret", "")):
        dashboard.page.get_by_role("textbox", name="Token").fill(token)
        dashboard.confirm("Go on")
        if then:
            expect(dashboard.page.locator("dialog[open]")).to_contain_text(then)
    expect(dashboard.page.locator("#notices")).to_contain_text("2 of sum is active.")
    assert sent == [None, "Bearer wrong", "Bearer secret"]
    assert gateway.ask("POST", "/models/sum/rollback").json["status"] is True
    refused = [each for each in dashboard.complaints if "401" in each]
    assert len(refused) == 2  # the browser's own lines on them
    dashboard.complaints = [each for each in dashboard.complaints if each not in refused]
